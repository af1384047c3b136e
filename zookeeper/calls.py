"""Calls to ZooKeeper that never wait for a connection, and for an answer only so long.

kazoo would queue calls without limit while there is no connection, and run them on reconnect, long after the caller
gave up (row 3; python-zk/kazoo#588, same cure in patroni/patroni#1982). And nothing here waits by
`AsyncResult.get(timeout)`: under gevent that raises `gevent.Timeout`, a BaseException that nobody can tell from the
caller's own (row 4). Waiting by `wait(timeout)` leaves the caller's timeouts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NoNodeError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)

from ringway.core.errors import Unavailable

SERVICE = "ZooKeeper"
CALL_TIMEOUT_S = 5.0
AWAY = (ConnectionLoss, ConnectionClosedError, SessionExpiredError, OperationTimeoutError, AuthFailedError)

Watch = Callable[[Any], object]


class Calls:
    """The calls that ringway makes. Each raises Unavailable, or what `denied` gives where rights are missing; kazoo's
    NoNodeError and the like pass through.

    A `watch` is called once, in kazoo's callback task: it must only set an event. The same object counts once however
    often it is given. Watches end with the connection, and are called then.
    """

    def __init__(self, client: Any, denied: Callable[[], Exception]) -> None:
        self.client = client
        self._denied = denied

    @property
    def connected(self) -> bool:
        return bool(self.client.connected)

    def call(self, begin: Callable[[Any], Any], timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Run `begin(kazoo client)`, which must be one of kazoo's `*_async` calls, and wait for its answer.

        Raises:
            Unavailable: no connection, lost during the call, or no answer in `timeout_s` seconds. A write may have
                happened all the same: writes must be idempotent or guarded by a version.
        """
        return self._finish(self._begin(begin), timeout_s)

    def ask(self, begin: Callable[[Any], Any]) -> Any:
        """As `call`, for who wants to know whether it has the rights: missing ones are kazoo's NoAuthError."""
        return self._wait(self._begin(begin), CALL_TIMEOUT_S)

    def get(self, path: str, watch: Watch | None = None) -> tuple[bytes, Any]:
        """The znode's data and its stat."""
        data, stat = self.call(lambda client: client.get_async(path, watch=watch))
        return data, stat

    def get_many(self, paths: Iterable[str], watches: Iterable[Watch | None]) -> list[tuple[bytes, Any] | None]:
        """As `get` for each path, all in flight at once; None for one that does not exist."""
        pairs = list(zip(paths, watches, strict=True))
        begun = [self._begin(partial(_begin_get, path=path, watch=watch)) for path, watch in pairs]
        return [self._or_none(result) for result in begun]

    def exists(self, path: str, watch: Watch | None = None) -> Any | None:
        return self.call(lambda client: client.exists_async(path, watch=watch))

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        names: list[str] = self.call(lambda client: client.get_children_async(path, watch=watch))
        return names

    def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False) -> None:
        self.call(lambda client: client.create_async(path, data, ephemeral=ephemeral))

    def set(self, path: str, data: bytes, version: int) -> Any:
        return self.call(lambda client: client.set_async(path, data, version=version))

    def delete(self, path: str, version: int = -1) -> None:
        self.call(lambda client: client.delete_async(path, version=version))

    def ensure_path(self, path: str) -> None:
        self.call(lambda client: client.ensure_path_async(path))

    def sync(self, path: str, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Have the server catch up with the leader, so that the next read sees every write finished before now."""
        self.call(lambda client: client.sync_async(path), timeout_s)

    def commit(self, build: Callable[[Any], object]) -> list[Any]:
        """Run one transaction: `build` adds operations to a kazoo TransactionRequest.

        kazoo gives failures back in the list of results instead of raising them (row 17). Here the first
        operation that failed raises its own error, and then nothing was done.
        """

        def begin(client: Any) -> Any:
            transaction = client.transaction()
            build(transaction)
            return transaction.commit_async()

        results: list[Any] = self.call(begin)
        failures = [r for r in results if isinstance(r, Exception)]
        cause = [r for r in failures if not isinstance(r, (RolledBackError, RuntimeInconsistency))]
        if failures:
            raise self._denied_or((cause or failures)[0])
        return results

    def _begin(self, begin: Callable[[Any], Any]) -> Any:
        if not self.connected:
            raise Unavailable(SERVICE, "not connected")
        return begin(self.client)

    def _finish(self, result: Any, timeout_s: float) -> Any:
        try:
            return self._wait(result, timeout_s)
        except NoAuthError as error:
            raise self._denied() from error

    def _denied_or(self, error: Exception) -> Exception:
        return self._denied() if isinstance(error, NoAuthError) else error

    def _wait(self, result: Any, timeout_s: float) -> Any:
        result.wait(timeout_s)
        if not result.ready():
            raise Unavailable(SERVICE, f"no answer in {timeout_s:g} s")
        try:
            return result.get_nowait()
        except AWAY as error:
            raise Unavailable(SERVICE, type(error).__name__) from error

    def _or_none(self, result: Any) -> tuple[bytes, Any] | None:
        try:
            data, stat = self._finish(result, CALL_TIMEOUT_S)
        except NoNodeError:
            return None
        return data, stat


def _begin_get(client: Any, *, path: str, watch: Watch | None) -> Any:
    return client.get_async(path, watch=watch)
