"""The KazooClient that ringway uses: its settings, TLS and ACL, and calls that never wait for a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.retry import KazooRetry

from .access import cluster_acl
from .runtime import Runtime

# kazoo's default grows to an hour between connection attempts (row 1).
RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 1.6, "max_delay": 1.0}


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files (PEM) for TLS to ZooKeeper. The server's name is checked, which is not kazoo's default."""

    ca: str
    certfile: str | None = None
    keyfile: str | None = None


class FailFastClient(KazooClient):  # type: ignore[misc]
    """A KazooClient that refuses a request while it has no connection, instead of keeping it for later (row 3)."""

    def _call(self, request: Any, async_object: Any) -> Any:
        if not self.connected:
            async_object.set_exception(ConnectionLoss())
            return False
        answer = super()._call(request, async_object)
        if not self.connected:  # lost between the check and the append: take it back if it is still there
            self._withdraw(request, async_object)
        return answer

    def forget_requests(self) -> None:
        """Between `stop` and a new start: where the connection loop had died, nobody took the request to close, and
        the next loop would close at once."""
        self._queue.clear()

    def _withdraw(self, request: Any, async_object: Any) -> None:
        try:
            self._queue.remove((request, async_object))
        except (ValueError, IndexError):
            return  # kazoo has answered it, or is emptying the queue right now
        async_object.set_exception(ConnectionLoss())


def kazoo_client(
    hosts: str, timeout_s: float, runtime: Runtime, tls: TlsOptions | None, digest: str | None
) -> FailFastClient:
    """A client, not started. Never read-only: such a client stays SUSPENDED in an ensemble without quorum (row 15).

    Raises:
        ConfigError: `digest` is not user:password.
    """
    retry = KazooRetry(sleep_func=runtime.handler.sleep_func, **RETRY)
    options: dict[str, Any] = {"connection_retry": retry, "handler": runtime.handler, "timeout": timeout_s}
    if tls is not None:
        options |= {"use_ssl": True, "verify_certs": True, "check_hostname": True, "ca": tls.ca}
        options |= {"certfile": tls.certfile, "keyfile": tls.keyfile}
    if digest is not None:
        options["auth_data"] = [("digest", digest)]
        options["default_acl"] = cluster_acl(digest)
    return FailFastClient(hosts=hosts, **options)
