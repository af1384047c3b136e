"""The house rules that an import can break: what is pure stays pure, and gevent stays in the service shells."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ringway", "zookeeper", "lookup_service", "ws_server", "client_sdk")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
CLOCKS = {"socket", "time", "threading", "os", "asyncio", "selectors", "subprocess"}
IMPURE = CLOCKS | {"gevent", "kazoo", "redis", "flask"}
SERVER_ONLY = {"gevent", "kazoo", "redis", "flask", "flask_sock", "granian", "xxhash", "jwt", "prometheus_client"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute module names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(path)}


def under(folder: str) -> list[Path]:
    return [path for path in SOURCES if name(path).startswith(folder + "/")]


@pytest.mark.parametrize("path", under("ringway/core"), ids=name)
def test_the_core_is_pure(path: Path) -> None:
    assert not tops(path) & IMPURE


@pytest.mark.parametrize("path", under("client_sdk"), ids=name)
def test_the_sdk_needs_only_the_base_install(path: Path) -> None:
    assert not tops(path) & SERVER_ONLY


@pytest.mark.parametrize("path", [p for p in SOURCES if not name(p).startswith("ws_server/")], ids=name)
def test_importing_anything_but_the_node_does_not_import_gevent(path: Path) -> None:
    at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [line for line in map(ast.unparse, at_import) if "gevent" in line]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_a_main_patches_and_first_of_all(path: Path) -> None:
    patches = re.search(r"monkey\.patch|patch_all\(", path.read_text())
    if path.name != "__main__.py":
        assert not patches
    elif patches:
        first = next(line for _, line in imports(path) if _ != "__future__")
        assert "gevent" in path.read_text().splitlines()[first - 1]


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name)
def test_the_folders_are_never_imported_by_their_bare_names(path: Path) -> None:
    assert not tops(path) & {"zookeeper", "lookup_service", "ws_server", "client_sdk"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
