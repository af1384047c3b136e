"""The options of each command, read from its `--help`, for tests that compare them with the documents.

`python -m tests.harness.commands` writes the tables of options and metrics in docs/operations.md anew.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness import web

SERVICES = ("node", "lookup")
TOOLS = ("dev", "route", "ring", "preview", "drain", "rebalance", "accept-losses", "close", "send", "listen", "doctor",
         "chaos")
OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"


@functools.cache
def help_text(command: str) -> str:
    """What `ringway <command> --help` prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGWAY_")}
    run = [sys.executable, "-c", "from ringway.cli import main; main()", command, "--help"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def option_blocks(command: str) -> dict[str, str]:
    """Flag -> its help text, like --node-id -> "Id of the node. [env var: RINGWAY_NODE_ID]"."""
    blocks = re.findall(r"^ +(--[a-z][\w-]+)(.*?)(?=^ +--|\Z)", help_text(command), re.MULTILINE | re.DOTALL)
    return {flag: " ".join(re.sub(r"^ \S+", "", text).split()) for flag, text in blocks}


def option_names(command: str) -> set[str]:
    return set(option_blocks(command))


def variables(*commands: str) -> set[str]:
    """The variables of these commands (all of them by default), like RINGWAY_NODE_ID."""
    texts = [" ".join(help_text(command).split()) for command in commands or (*SERVICES, *TOOLS)]
    return {name for text in texts for name in re.findall(r"env var: (RINGWAY_[A-Z0-9_]+)", text)}


def option_table(command: str) -> str:
    """The options of a command as a Markdown table."""
    rows = ["| flag | variable | default | |", "|---|---|---|---|"]
    for flag, block in option_blocks(command).items():
        variable = re.search(r"env var: (RINGWAY_\w+)", block)
        if variable is None:  # --help
            continue
        default = re.search(r"default: \(?(.+?)\)?(?:; required)?\]", block)
        needed = "required" if "required" in block.rpartition("[")[2] else ""
        said = block.partition("[env var")[0].strip().replace("|", "\\|")
        rows.append(f"| `{flag}` | `{variable[1]}` | {f'`{default[1]}`' if default else needed} | {said} |")
    return "\n".join(rows)


def with_tables(document: str) -> str:
    """The document with each `<!-- options: command -->` table as the command has it now."""
    pattern = r"(<!-- options: ([\w-]+) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{option_table(m[2])}\n{m[3]}", document, flags=re.DOTALL)


def node_metrics(text: str) -> dict[str, str]:
    """Name -> meaning, from a node's `/metrics`."""
    return dict(re.findall(r"^# HELP (ringway_node_\S+) (.+)$", text, re.MULTILINE))


def lookup_metrics() -> dict[str, str]:
    """Name -> meaning. Not from `/metrics`: workers that share it show only what has a value."""
    from ringway.lookup_service.metrics import Metrics

    suffix = {"counter": "_total"}
    families = Metrics().registry.collect()
    return {family.name + suffix.get(family.type, ""): family.documentation for family in families}


def metric_table(metrics: dict[str, str]) -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in sorted(metrics.items())]
    return "\n".join(["| metric | |", "|---|---|", *rows])


def with_metrics(document: str, nodes: dict[str, str]) -> str:
    """The document with the table of metrics as the services have them now."""
    table = metric_table(lookup_metrics() | nodes)
    return re.sub(r"(<!-- metrics -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\2", document, flags=re.DOTALL)


def _write() -> None:

    from tests.harness.dev import Dev

    with Dev("--nodes", "1") as dev:
        node = web.get(f"{dev.lookup}/ring").json()["members"][0]["http"]
        nodes = node_metrics(web.get(f"{node}/metrics").text)
    OPERATIONS.write_text(with_metrics(with_tables(OPERATIONS.read_text()), nodes))


if __name__ == "__main__":
    _write()
