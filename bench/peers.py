"""The servers that are measured, each started alone, pinned to one core, and always stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).parent
WORK = HERE.parent / "var" / "bench"
PEER_PYTHON = WORK / "venv" / "bin" / "python"
SERVER_CORE, LOAD_CORE = "0", "1"
EVERY_SUBJECT = frozenset({"echo", "tls", "fanout", "handshake", "idle", "pings"})


@dataclass(frozen=True)
class Running:
    """A started server, and what the load generator must be told to talk to it."""

    pid: int
    port: int
    load: Sequence[str] = ()


class Subjected(Protocol):
    """What takes part in a measurement."""

    @property
    def name(self) -> str: ...
    @property
    def subjects(self) -> frozenset[str]: ...
    def running(self, kind: str) -> AbstractContextManager[Running]:
        """Start it for a subject of this kind; stop it at the end of the block."""


@dataclass(frozen=True)
class Peer:
    """A server by its command; port, certificate and key are appended."""

    name: str
    command: Sequence[str]
    load: Sequence[str] = ()
    subjects: frozenset[str] = EVERY_SUBJECT
    cwd: Path = field(default=HERE / "servers")

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        port = free_port()
        command = pinned(SERVER_CORE, [*self.command, str(port), *(certificate() if kind == "tls" else ())])
        with (WORK / "server.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.cwd, stdout=log, stderr=log)
        try:
            wait_listening(port, process)
            yield Running(process.pid, port, self.load)
        finally:
            stop(process)


PEERS = (
    Peer("flask-sock", (str(PEER_PYTHON), "flask_sock_stock.py"), subjects=EVERY_SUBJECT - {"tls"}),
    Peer("gevent-websocket", (str(PEER_PYTHON), "gevent_websocket_server.py"),
         subjects=EVERY_SUBJECT - {"tls", "pings"}),
    Peer("websockets+uvloop", (str(PEER_PYTHON), "websockets_uvloop.py")),
    Peer("aiohttp+uvloop", (str(PEER_PYTHON), "aiohttp_uvloop.py")),
    Peer("picows+uvloop", (str(PEER_PYTHON), "picows_uvloop.py")),
    Peer("bare loop of sends", (sys.executable, "bare_sends.py"), subjects=frozenset({"fanout"})),
    Peer("node ws", ("node", "ws_node.mjs"), cwd=WORK / "npm"),
    Peer("python-socketio", (str(PEER_PYTHON), "socketio_gevent.py"), subjects=frozenset({"echo", "handshake"}), load=(
        "--path", "/socket.io/?EIO=4&transport=websocket", "--swallow", "2", "--hello", "40",
        "--prefix", '42["m","', "--suffix", '"]')),
)


def install() -> None:
    """Make the peers' environments and build the load generator. Idempotent."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not PEER_PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(WORK / "venv")], check=True)
        requirements = str(HERE / "servers" / "requirements.txt")
        subprocess.run([str(PEER_PYTHON), "-m", "pip", "install", "-q", "-r", requirements], check=True)
    (WORK / "npm").mkdir(exist_ok=True)
    for name in ("package.json", "ws_node.mjs"):
        shutil.copy(HERE / "servers" / name, WORK / "npm" / name)
    if not (WORK / "npm" / "node_modules" / "ws").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=WORK / "npm", check=True)
    source, binary = HERE / "load" / "wsload.c", WORK / "wsload"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(binary), str(source), "-lssl", "-lcrypto"], check=True)


def certificate() -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1: the paths of (certificate, key)."""
    cert, key = WORK / "cert.pem", WORK / "key.pem"
    if not cert.exists():
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                        "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(cert)],
                       check=True, capture_output=True)
    return str(cert), str(key)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: str, command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", core, *command] if (os.cpu_count() or 1) > 1 else list(command)


def wait_listening(port: int, process: subprocess.Popen[Any], timeout_s: float = 20.0) -> None:
    """Raises RuntimeError where the server ends or does not listen in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}: {process.args!r}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port} after {timeout_s} s: {process.args!r}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; after 5 s, make it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
