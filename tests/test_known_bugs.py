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
    """A fixed sleep is a guess that something is ready by then; only a step of a loop that looks may sleep."""
    found = [f"{path.relative_to(ROOT)}:{call.lineno}" for folder in SERVICES
             for path in (ROOT / folder).rglob("*.py") for call in fixed_sleeps(ast.parse(path.read_text()))]
    assert found == []


def fixed_sleeps(tree: ast.Module) -> list[ast.Call]:
    looking = {id(node) for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return [c for c in calls if c.func.attr == "sleep" and id(c) not in looking  # type: ignore[attr-defined]
            and c.args and isinstance(c.args[0], ast.Constant) and c.args[0].value]
