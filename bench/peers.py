"""The servers that are measured, each started alone, pinned to one core, and always stopped."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .processes import LOAD_CORE as LOAD_CORE
from .processes import SERVER_CORE, tree
from .processes import pinned as pinned

HERE = Path(__file__).parent
ROOT = HERE.parent
WORK = ROOT / "var" / "bench"
PEER_PYTHON = WORK / "venv" / "bin" / "python"
PINGS_S = 25  # between pings, where the subject is what they cost
# What a server is started for. One of "echo" and "handshake" is no other than one of "echo".
EVERY_SUBJECT = frozenset({"echo", "tls", "fanout", "idle", "pings", "slow"})


@dataclass(frozen=True)
class Running:
    """A started server, and what the load generator must be told to talk to it."""

    pid: int
    port: int
    load: Sequence[str] = ()
    renewed: Callable[[int], Sequence[str]] | None = None
    descriptors: int = 1  # that a connection takes

    @property
    def most(self) -> int:
        """How many connections it can have under this machine's limit of descriptors."""
        return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100) // self.descriptors

    def allow(self, connections: int) -> None:
        """Raises RuntimeError where it cannot have so many."""
        if connections > self.most:
            raise RuntimeError(f"{self.descriptors} descriptors a connection: at most {self.most:,} connections here")

    def options(self, connections: int) -> Sequence[str]:
        """The generator's options for a run with so many connections; each run needs its own."""
        return self.load if self.renewed is None else self.renewed(connections)

    @property
    def pids(self) -> list[int]:
        """The server's process and its children."""
        return tree(self.pid)


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
    descriptors: int = 1
    cwd: Path = field(default=HERE / "servers")

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        port = free_port()
        command = pinned(SERVER_CORE, [*self.command, str(port), *(certificate() if kind == "tls" else ())])
        env = {**os.environ, "BENCH_PING_S": str(PINGS_S)} if kind == "pings" else None
        log = WORK / f"{''.join(c if c.isalnum() else '-' for c in self.name)}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(command, cwd=self.cwd, env=env, stdout=said, stderr=said)
        try:
            wait_listening(port, process, log=log)
            yield Running(process.pid, port, self.load, descriptors=self.descriptors)
        finally:
            stop(process)


PEERS = (
    Peer("flask-sock", (str(PEER_PYTHON), "flask_sock_stock.py"), subjects=EVERY_SUBJECT - {"tls"}, descriptors=2),
    Peer("gevent-websocket", (str(PEER_PYTHON), "gevent_websocket_server.py"),
         subjects=EVERY_SUBJECT - {"tls", "pings", "slow"}),
    Peer("websockets+uvloop", (str(PEER_PYTHON), "websockets_uvloop.py")),
    Peer("aiohttp+uvloop", (str(PEER_PYTHON), "aiohttp_uvloop.py")),
    Peer("picows+uvloop", (str(PEER_PYTHON), "picows_uvloop.py")),
    Peer("ceiling (C, epoll)", (str(WORK / "ceiling"),), subjects=frozenset({"echo"})),
    Peer("bare loop of sends", (sys.executable, "bare_sends.py"), subjects=frozenset({"fanout"})),
    Peer("node ws", ("node", "ws_node.mjs"), cwd=WORK / "npm"),
    Peer("python-socketio", (str(PEER_PYTHON), "socketio_gevent.py"), subjects=frozenset({"echo", "idle"}), load=(
        "--path", "/socket.io/?EIO=4&transport=websocket", "--swallow", "2", "--hello", "40",
        "--prefix", '42["m","', "--suffix", '"]')),
)


def install() -> list[str]:
    """Make the peers' environments and build the load generator. Idempotent. What could not be had, in words: those
    peers will not start, the others are measured. Raises CalledProcessError where the generator cannot be built."""
    WORK.mkdir(parents=True, exist_ok=True)
    compile_c(HERE / "load" / "wsload.c", "-lssl", "-lcrypto")
    missing = []
    for step in (python_peers, node_peer, lambda: compile_c(HERE / "servers" / "ceiling.c", "-lcrypto")):
        try:
            step()
        except (OSError, subprocess.CalledProcessError) as error:
            missing.append(str(error))
    return missing


def python_peers() -> None:
    wanted, had = HERE / "servers" / "requirements.txt", WORK / "venv" / "requirements.txt"
    if had.exists() and had.read_text() == wanted.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", str(WORK / "venv")], check=True)
    subprocess.run([str(PEER_PYTHON), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
    shutil.copy(wanted, had)


def node_peer() -> None:
    (WORK / "npm").mkdir(exist_ok=True)
    for name in ("package.json", "ws_node.mjs"):
        shutil.copy(HERE / "servers" / name, WORK / "npm" / name)
    if not (WORK / "npm" / "node_modules" / "ws").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=WORK / "npm", check=True)


def compile_c(source: Path, *libraries: str) -> None:
    """Build WORK/<its name>, where it is older than its source."""
    binary = WORK / source.stem
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(binary), str(source), *libraries], check=True)


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


def wait_listening(
    port: int, process: subprocess.Popen[Any], timeout_s: float = 20.0, log: Path | None = None
) -> None:
    """Raises RuntimeError where the server ends, with its last line, or does not listen in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines() if log is not None else []
            raise RuntimeError(f"server ended with {process.returncode}: {said[-1] if said else 'it said nothing'}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server does not listen after {timeout_s:g} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; after 5 s, make it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
