"""The wheel as a user gets it: one top-level name, an SDK with few dependencies, types that hold under mypy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("ringway", "zookeeper", "lookup_service", "ws_server", "client_sdk")
STUBS = ("types-gevent", "types-psutil")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, **env: str) -> Path:
    """A wheel, built from a copy: setuptools would pick up what an earlier build left behind."""
    unwanted = shutil.ignore_patterns("__pycache__", "node_modules", "*.so")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", "dist", ".", cwd=source, **env)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("source"))


def extensions(wheel: Path) -> list[str]:
    return [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".c"))]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_the_wheel_has_the_compiled_hot_path(wheel: Path) -> None:
    assert [name.split(".")[0] for name in extensions(wheel)] == ["ringway/ws_server/_fast"]


def test_without_a_compiler_it_is_built_without_it(tmp_path: Path) -> None:
    assert extensions(build(tmp_path, CC="/bin/false")) == []


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and its base dependencies alone."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=folder)
    return python


def test_the_top_level_is_ringway_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"ringway", "ringway-0.1.0.dist-info"}
    subpackages = {name.split("/")[1] for name in names if name.startswith("ringway/") and name.count("/") > 1}
    assert {"core", "store", "zookeeper", "lookup_service", "ws_server", "client_sdk"} <= subpackages


def test_the_wheel_has_every_file_that_is_not_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = list((ROOT / "ringway" / "store").glob("*.lua"))
    data += list((ROOT / "lookup_service" / "dashboard").rglob("*.*"))
    data += list((ROOT / "client_sdk" / "js").glob("*.*"))
    in_wheel = {f"ringway/{path.relative_to(ROOT)}".replace("ringway/ringway/", "ringway/") for path in data}
    assert in_wheel <= names
    assert "ringway/py.typed" in names


def test_the_sdk_and_the_command_work_with_the_base_dependencies(clean: Path) -> None:
    there = clean.parent
    run(clean, "-c", "from ringway.client_sdk import AsyncClient, Client", cwd=there)
    assert "dev" in run(there / "ringway", "--help", cwd=there)
    refused = subprocess.run([there / "ringway", "dev"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "pip install 'ringway[server]'" in refused.stderr


def test_mypy_strict_passes_on_the_installed_wheel(clean: Path, wheel: Path) -> None:
    pip = (clean, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, f"{wheel}[server]", *STUBS, cwd=clean.parent)
    configuration = ("--config-file", str(ROOT / "pyproject.toml"), "--python-executable", str(clean))
    cache = clean.parent / "mypy-cache"
    run(sys.executable, "-m", "mypy", *configuration, "--cache-dir", str(cache), "-p", "ringway", cwd=clean.parent)
