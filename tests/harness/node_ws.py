"""npm packages: `ws` in the tree's `var/`, and those of tests/js beside its tests (git ignores both)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

TESTS = Path(__file__).parent.parent / "js"
FOLDER = Path(__file__).parent.parent.parent / "var" / "npm"
VERSION = "8"


def node_ws() -> Path:
    """The module file to import. The first caller installs it; others, also of other processes, wait."""
    module = FOLDER / "node_modules" / "ws" / "wrapper.mjs"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not module.exists():
            (FOLDER / "package.json").write_text("{}\n")
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"ws@{VERSION}"]
            subprocess.run(install, cwd=FOLDER, check=True, stdin=subprocess.DEVNULL)
    return module


def unavailable(why: str) -> NoReturn:
    """Skips here, fails in CI."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(why)
    pytest.skip(why)


def node() -> str:
    """The program, 20 or later."""
    path = shutil.which("node") or unavailable("node is not installed")
    version = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version[1:].split(".")[0]) < 20:
        unavailable(f"node is {version}, the JavaScript tests need 20 or later")
    return path


def packages() -> Path:
    """tests/js/node_modules. The first caller installs them; others, also of other processes, wait."""
    wanted = json.loads((TESTS / "package.json").read_text())["devDependencies"]
    modules = TESTS / "node_modules"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((modules / name / "package.json").exists() for name in wanted):
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
            if shutil.which("npm") is None or subprocess.run(command, cwd=TESTS, capture_output=True).returncode:
                unavailable(f"npm could not install {', '.join(wanted)}")
    return modules
