"""The options of each command, read from its `--help`, for tests that compare them with the documents."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys

SERVICES = ("node", "lookup")
TOOLS = ("dev", "route", "ring", "preview", "drain", "send", "listen", "doctor")


@functools.cache
def help_text(command: str) -> str:
    """What `ringway <command> --help` prints, on lines too long to be wrapped."""
    environment = {**os.environ, "COLUMNS": "500"}
    run = [sys.executable, "-c", "from ringway.cli import main; main()", command, "--help"]
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout


def option_names(command: str) -> set[str]:
    """The flags of a command, like --node-id."""
    return set(re.findall(r"^ +(--[a-z][\w-]+)", help_text(command), re.MULTILINE))


def variables(*commands: str) -> set[str]:
    """The variables of these commands (all of them by default), like RINGWAY_NODE_ID."""
    texts = [help_text(command) for command in commands or (*SERVICES, *TOOLS)]
    return {name for text in texts for name in re.findall(r"\bRINGWAY_[A-Z0-9_]+", text)}
