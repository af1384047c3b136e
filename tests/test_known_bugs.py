"""The table of known bugs names tests that exist; and no service sleeps where it should wait."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "known-bugs-of-the-field.md").read_text()
ROWS = re.findall(r"^\| (b\d+) \|(.*)\|$", TABLE, re.MULTILINE)
SERVICES = ("ringway/core", "ringway/store", "zookeeper", "lookup_service", "ws_server")


def test_all_21_are_there() -> None:
    assert [number for number, _ in ROWS] == [f"b{n}" for n in range(1, 22)]


@pytest.mark.parametrize(("number", "row"), ROWS)
def test_its_tests_exist(number: str, row: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert named, number
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert test in functions, f"{number}: {path} has no {test}"


def test_no_service_sleeps_in_place_of_waiting() -> None:
    """Waiting is for an event, a deadline or a paced step; `time.sleep(constant)` is none of them."""
    for folder in SERVICES:
        for path in (ROOT / folder).rglob("*.py"):
            for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
                sleeps = isinstance(call.func, ast.Attribute) and call.func.attr == "sleep"
                fixed = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value != 0
                assert not (sleeps and fixed), f"{path.relative_to(ROOT)}:{call.lineno}"
