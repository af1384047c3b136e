"""The npm package `ws`, installed once into the tree's `var/` (which git ignores)."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

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
