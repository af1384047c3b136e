"""The documents name files, options and metrics that exist, and leave none out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.commands import SERVICES, TOOLS, help_text, variables

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = ROOT / "docs" / "operations.md"
FOLDERS = "ringway|zookeeper|lookup_service|ws_server|client_sdk|tests|bench|examples|deploy|docs"
METRICS = re.compile(r"ringway_(?:lookup|node|zookeeper|store)_[a-z0-9_]+")


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
def test_every_option_is_in_the_operations_guide(command: str) -> None:
    text = OPERATIONS.read_text()
    assert not [variable for variable in variables(command) if f"`{variable}`" not in text]


@pytest.mark.parametrize("command", [*SERVICES, *TOOLS])
def test_every_option_has_a_variable(command: str) -> None:
    flags = re.findall(r"^ +(--[a-z][\w-]+).*?(?=^ +--|\Z)", help_text(command), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^ +--[a-z].*?(?=^ +--|\Z)", help_text(command), re.MULTILINE | re.DOTALL)
    without = [flag for flag, block in zip(flags, blocks, strict=True) if "RINGWAY_" not in block]
    assert without == ["--help"]


def test_the_operations_guide_has_no_option_that_does_not_exist() -> None:
    named = set(re.findall(r"`(RINGWAY_[A-Z0-9_]+)`", OPERATIONS.read_text()))
    assert {each for each in named if not each.startswith("RINGWAY_TEST_")} <= variables()
