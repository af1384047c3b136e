"""Which ZooKeeper the tests run on, and every one as an object that can be started, stopped and made to fail.

`choose()` takes, in this order: RINGWAY_TEST_ZOOKEEPER (host:port of one that runs), a container when a Docker engine
answers (image: RINGWAY_TEST_ZOOKEEPER_IMAGE, zookeeper:3.9 unless named), Debian's package, the embedded one.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import docker  # type: ignore[import-untyped]
from docker.errors import APIError, DockerException  # type: ignore[import-untyped]
from kazoo.client import KazooClient
from testcontainers.core.container import DockerContainer

from ringway.zookeeper.devserver import DevServer
from tests.harness import zookeeper_java
from tests.harness.ports import pick_port
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_java import Ensemble, RealZooKeeper, mode, srvr

__all__ = [
    "Choice",
    "ContainerZooKeeper",
    "DevServerZooKeeper",
    "Ensemble",
    "GivenZooKeeper",
    "RealZooKeeper",
    "Stoppable",
    "ZooKeeperServer",
    "choose",
    "expire_session",
    "own",
]

DEFAULT_IMAGE = "zookeeper:3.9"
_CLIENT_PORT = 2181
_ATTEMPTS = 5


class ZooKeeperServer(Protocol):
    """One server for as long as its context lasts. Data survives `stop`, `kill` and `restart`, not `wipe`."""

    real: bool

    @property
    def address(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def wipe(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def srvr(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class DevServerZooKeeper:
    """The embedded server in a thread of this process; `server` has the fault verbs that a real one lacks."""

    real = False

    def __init__(self) -> None:
        self.server = DevServer()

    @property
    def address(self) -> str:
        return self.server.address

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    kill = stop

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def wipe(self) -> None:
        self.server.wipe()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    def srvr(self) -> str:
        return self.server.report()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ContainerZooKeeper:
    """A ZooKeeper in a container. The constructor raises DockerException when no Docker engine answers."""

    real = True

    def __init__(self, image: str | None = None) -> None:
        self.image = image or os.environ.get("RINGWAY_TEST_ZOOKEEPER_IMAGE") or DEFAULT_IMAGE
        # A port of our own choice: one chosen by the engine would change over a restart.
        self.port = pick_port()
        self._container = self._new()
        self.address = ""

    def start(self) -> None:
        self._docker.start()
        self._wait_serving()

    def stop(self) -> None:
        self._docker.stop(timeout=5)

    def kill(self) -> None:
        self._docker.kill()
        self._docker.wait()

    def restart(self) -> None:
        self._docker.restart(timeout=0)
        self._wait_serving()

    def wipe(self) -> None:
        """A new container in the place of the old: whatever the image calls its data is gone."""
        self._container.stop()
        self._container = self._new()
        self._start_new()

    def freeze(self) -> None:
        self._docker.pause()

    def thaw(self) -> None:
        self._docker.unpause()

    def srvr(self) -> str:
        return srvr(self.address)

    def __enter__(self) -> Self:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_new()
                return self
            except BaseException as error:
                self._container.stop()
                if attempt == _ATTEMPTS or not (isinstance(error, APIError) and "port" in str(error)):
                    raise
            self.port = pick_port()  # another process took it between the look and the bind
            self._container = self._new()
        raise AssertionError("not reached")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.stop()

    @property
    def _docker(self) -> Any:
        return self._container.get_wrapped_container()

    def _new(self) -> DockerContainer:
        container = DockerContainer(self.image).with_bind_ports(_CLIENT_PORT, self.port)
        return container.with_env("ZOO_4LW_COMMANDS_WHITELIST", "*")

    def _start_new(self) -> None:
        self._container.start()
        self.address = f"{self._container.get_container_host_ip()}:{self._container.get_exposed_port(_CLIENT_PORT)}"
        self._wait_serving()

    def _wait_serving(self) -> None:
        wait_until(lambda: mode(self.address), 60.0, f"ZooKeeper of {self.image} at {self.address} serves")


class GivenZooKeeper:
    """A ZooKeeper that somebody else runs; it cannot be made to fail."""

    real = True

    def __init__(self, address: str) -> None:
        self.address = address

    def srvr(self) -> str:
        return srvr(self.address.split(",")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


Stoppable = RealZooKeeper | ContainerZooKeeper | DevServerZooKeeper
Provider = RealZooKeeper | ContainerZooKeeper | GivenZooKeeper | DevServerZooKeeper


@dataclass(frozen=True, slots=True)
class Choice:
    """`make` gives the provider, not yet entered; `sentence` says what it is and why."""

    make: Callable[[], Provider]
    sentence: str
    real: bool


def choose() -> Choice:
    if address := os.environ.get("RINGWAY_TEST_ZOOKEEPER"):
        return Choice(lambda: GivenZooKeeper(address), f"the one at {address} (RINGWAY_TEST_ZOOKEEPER)", True)
    named = os.environ.get("RINGWAY_TEST_ZOOKEEPER_IMAGE")
    refusal = _container_refusal(named or DEFAULT_IMAGE)
    if named or not refusal:
        return Choice(ContainerZooKeeper, f"real, {named or DEFAULT_IMAGE} in a container (testcontainers)", True)
    if zookeeper_java.available():
        return Choice(RealZooKeeper, f"real, this machine's ZooKeeper {zookeeper_java.version()} ({refusal})", True)
    return Choice(DevServerZooKeeper, f"EMBEDDED development server ({refusal}; no Java or no zookeeper.jar)", False)


def own() -> Stoppable:
    """One for a single test, which may stop, freeze and wipe it: this machine's, for it starts fastest; not entered."""
    if zookeeper_java.available():
        return RealZooKeeper()
    chosen = choose().make()
    return DevServerZooKeeper() if isinstance(chosen, GivenZooKeeper) else chosen


def _container_refusal(image: str) -> str:
    """Why there can be no container of `image`; empty when there can."""
    try:
        client = docker.from_env(timeout=120)
    except DockerException:
        return "no Docker engine answers"
    try:
        if not client.images.list(image):
            client.images.pull(image)
    except DockerException:
        return f"the Docker engine has no image {image} and cannot pull it"
    finally:
        client.close()
    return ""


def expire_session(client: KazooClient) -> None:
    """Has the server end a live client's session, as if its time had run out; works on every server.

    A second connection resumes the session and closes it in one write, so the client has no chance to come between.
    """
    session_id, password = client.client_id
    connect = struct.pack("!iqiqi", 0, 0, 10000, session_id, len(password)) + password + b"\0"
    close = struct.pack("!ii", 1, -11)
    host, port = client.hosts[0]
    with socket.create_connection((host, port), timeout=5.0) as connection:
        for packet in (connect, close):
            connection.sendall(struct.pack("!i", len(packet)) + packet)
        while connection.recv(4096):  # until the server has closed the session and then the connection
            pass
