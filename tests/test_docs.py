"""The documents name files, options and metrics that exist, and leave none out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ringway.zookeeper.guards import VERDICTS
from tests.harness import web
from tests.harness.cluster import Cluster
from tests.harness.commands import (
    SERVICES,
    TOOLS,
    lookup_metrics,
    node_metrics,
    option_blocks,
    variables,
    with_metrics,
    with_tables,
)

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = ROOT / "docs" / "operations.md"
FOLDERS = "ringway|zookeeper|lookup_service|ws_server|client_sdk|tests|bench|examples|deploy|docs"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w/.-]*\w\.(?:py|md|lua|js|ts|c))\b", document.read_text()))
    assert not {path for path in named if not (ROOT / path).exists() and not (document.parent / path).exists()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_inside_the_tree_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


@pytest.mark.parametrize("command", [*SERVICES, *TOOLS])
def test_every_option_has_a_variable(command: str) -> None:
    without = [flag for flag, text in option_blocks(command).items() if "env var: RINGWAY_" not in text]
    assert without == ["--help"]


def test_the_tables_of_options_are_those_of_the_commands() -> None:
    """`python -m tests.harness.commands` writes them anew."""
    text = OPERATIONS.read_text()
    assert text == with_tables(text)


def test_the_tables_of_guards_have_every_guard_and_every_setting() -> None:
    section = OPERATIONS.read_text().partition("\n## Guards\n")[2].partition("\n## ")[0]
    named = {name.strip() for row in re.findall(r"^\| ([^|]+)\|", section, re.MULTILINE) for name in row.split(",")}
    assert {guard.replace("_", " ") for guard, _ in VERDICTS} <= named
    settings = {name for name in variables("lookup") if name.startswith(("RINGWAY_GUARD_", "RINGWAY_SOFTDOWN_"))}
    assert settings <= set(re.findall(r"`(RINGWAY_[A-Z_]+)`", section))


def test_no_document_names_an_option_that_does_not_exist() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"\b(RINGWAY_[A-Z0-9_]+)\b", path.read_text())}
    known = variables() | {"RINGWAY_PURE_PYTHON"}  # read at import, before any command's options
    assert {name for name in named if not name.startswith("RINGWAY_TEST_")} <= known


def test_the_table_of_metrics_is_that_of_the_services(zookeeper: str, redis_url: str) -> None:
    """`python -m tests.harness.commands` writes it anew."""
    text = OPERATIONS.read_text()
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=1, lookups=0) as cluster:
        answer = web.get(f"{cluster.nodes['node-1'].http}/metrics").text
    nodes = node_metrics(answer)
    assert text == with_metrics(text, nodes)
    named = set(re.findall(r"`(ringway_(?:lookup|node)_\w+)`", text))
    assert named <= nodes.keys() | lookup_metrics().keys()


def test_the_http_api_has_every_endpoint_and_no_other() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "lookup_service").glob("*.py"))]
    found = [pair for text in sources for pair in re.findall(r'@part\.(get|post)\("([^"]+)"\)', text)]
    told = re.findall(r"`(GET|POST) (/[^?` ]*)", (ROOT / "docs" / "http-api.md").read_text())
    assert {(method.upper(), path) for method, path in found} == set(told)
