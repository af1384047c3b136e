"""The unit files are well formed, and every option in them exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.harness.commands import option_names, variables

SYSTEMD = Path(__file__).parent.parent / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))


def exec_start(unit: Path) -> str:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser["Service"]["ExecStart"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_flags_of_a_unit_exist(unit: Path) -> None:
    command = exec_start(unit)
    service = command.split()[1]
    assert set(re.findall(r"--[\w-]+", command)) <= option_names(service)


def test_the_variables_of_the_example_exist() -> None:
    text = (SYSTEMD / "ringway.env").read_text()
    assert set(re.findall(r"^(RINGWAY_\w+)=", text, re.MULTILINE)) <= variables()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name.replace("@", "@1")
    copy.write_text(unit.read_text().replace("/opt/ringway/bin/ringway", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if copy.name in line]
    assert not complaints
