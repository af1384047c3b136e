"""Every command and every piece of code that the documents show is run here, on a development cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness.dev import Dev
from tests.harness.node_ws import node_ws

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
EXAMPLE_LOOKUP = "http://127.0.0.1:8080"
# Commands that go on until they are stopped, and the line that shows that they work.
LASTING = {
    "ringway node": r"ringway node \S+ ready",
    "ringway lookup": r"ringway lookup ready",
    "ringway listen": r"# open",
    "ringway dev": r"The cluster is ready",
    "make demo": r"The cluster is ready",
    "ringway ring --watch": r"node +state",
}
NOT_HERE = {
    "make test": "it is what runs this test",
    "make bench": "it takes long; bench/ shows its results",
    "make soak": "it takes half an hour",
    "make chaos": "it takes hours",
    "python -m tests.harness.commands": "it writes into the tree; test_docs.py compares",
}


class Shown(NamedTuple):
    """A block of code in a document."""

    document: str
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.document}:{self.number}:{' '.join(self.code.split())[:40]}"


def shown(language: str) -> list[Shown]:
    blocks = []
    for path in DOCUMENTS:
        found = re.finditer(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        name = str(path.relative_to(ROOT))
        blocks += [Shown(name, number, match[1]) for number, match in enumerate(found, 1)]
    return blocks


def commands() -> list[Shown]:
    lines = [(block, line) for block in shown("sh") for line in block.code.splitlines()]
    return [Shown(block.document, block.number, line) for block, line in lines if not line.startswith(("export ", "#"))]


def clean(environment: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, **environment}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with Dev() as cluster:
        yield cluster


@pytest.mark.parametrize("command", commands(), ids=str)
def test_every_command_of_the_documents_works(command: Shown, dev: Dev) -> None:
    line = command.code.replace(".venv/bin/", "").strip()
    if line in NOT_HERE:
        pytest.skip(NOT_HERE[line])
    environment: dict[str, str | None] = {**dev.variables, "PATH": f"{BIN}:{os.environ['PATH']}", "RINGWAY_PORT": "0"}
    lasting = next((pattern for start, pattern in LASTING.items() if line.startswith(start)), None)
    if lasting is None:
        shell = ["bash", "-c", line]
        done = subprocess.run(shell, cwd=ROOT, env=clean(environment), capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    if "dev" in line or "demo" in line:  # a cluster of its own
        environment |= {"RINGWAY_ZOOKEEPER": None, "RINGWAY_REDIS": None}
    child = dev.start_beside("command", shlex.split(line), environment, ROOT)
    child.wait_line(lasting, 60.0)
    child.send_group(signal.SIGINT)  # as a terminal does for Ctrl-C
    assert child.wait(30.0)
    if line.startswith("make"):  # make has exit codes of its own
        assert "everything is stopped" in child.lines
    else:
        assert child.popen.returncode in (0, 130), list(child.lines)


def test_the_python_of_the_readme_works(dev: Dev, capsys: pytest.CaptureFixture[str]) -> None:
    (client_code,) = [block.code for block in shown("python") if "import Client" in block.code]
    # The commands above have sent messages to bob, and he would get them first.
    code = client_code.replace(EXAMPLE_LOOKUP, dev.lookup).replace('"bob"', '"robert"')
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == ["{'text': 'hello'}", "news alice for everybody in the group"]


def test_the_application_of_the_readme_works(tmp_path: Path, dev: Dev) -> None:
    (code,) = [block.code for block in shown("python") if "def setup(node)" in block.code]
    (tmp_path / "shown_app.py").write_text(code)
    node = dev.start_beside(
        "app", [sys.executable, "-m", "ringway.ws_server", "--node-id", "app", "--app", "shown_app:setup"],
        {"PYTHONPATH": str(tmp_path), "RINGWAY_CLUSTER": "readme"}, tmp_path,
    )  # fmt: skip
    base = node.wait_line(r"ready url=\S+ http=(\S+)", 30.0)[1]
    script = textwrap.dedent(
        f"""
        import httpx, websockets.sync.client
        assert httpx.get("{base}/hello").text == "app has 0 sessions"
        with websockets.sync.client.connect("{base.replace("http", "ws", 1)}/raw") as ws:
            ws.send("hello")
            assert ws.recv(timeout=5) == "hello"
        """
    )
    exec(script, types.ModuleType("client").__dict__)
    node.send(signal.SIGTERM)
    assert node.wait(30.0)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_javascript_of_the_readme_works(dev: Dev, tmp_path: Path) -> None:
    (code,) = [block.code for block in shown("js")]
    shutil.copy(ROOT / "client_sdk" / "js" / "ringway.js", tmp_path / "ringway.mjs")
    provide = f"import WebSocket from {json.dumps(str(node_ws()))}; globalThis.WebSocket ??= WebSocket;\n"
    script = tmp_path / "shown.mjs"
    script.write_text(provide + code.replace(EXAMPLE_LOOKUP, dev.lookup).replace("./ringway.js", "./ringway.mjs"))
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 0, done.stderr
    assert "carol { text: 'a note to myself' }" in done.stdout
