"""Everything on the port that is not the cluster's endpoint: gevent's pywsgi, without its accept loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import socket as GeventSocket

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger("ringway.ws_server.wsgi")


class ReadSocket(GeventSocket):
    """A gevent socket of which `head` was read already: that comes first."""

    head = b""

    def recv_into(self, *args: Any) -> int:
        """As a socket's; the only way in which pywsgi's buffered reader reads."""
        if not self.head:
            return super().recv_into(*args)
        buffer = memoryview(args[0])
        count = min(len(self.head), len(buffer))
        buffer[:count] = self.head[:count]
        self.head = self.head[count:]
        return count


class _Handler(WSGIHandler):
    """pywsgi's, less the traceback on stderr for every client that stalls or breaks off in its headers."""

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, OSError):
            log.debug("request of %s broke off: %s", self.client_address, ex)
            return None
        return super()._handle_client_error(ex)  # type: ignore[misc]  # provisional in gevent, and not in its stubs


class WsgiBridge:
    """Serves sockets that somebody else accepted, each in a greenlet of a bounded pool."""

    def __init__(self, app: WSGIApplication, address: tuple[str, int], *, requests: int, scheme: str = "http") -> None:
        host, port = address
        environ = {
            "SERVER_NAME": host,  # given, because pywsgi would ask DNS for it
            "SERVER_PORT": str(port),
            "wsgi.url_scheme": scheme,
        }
        self._server: Any = WSGIServer(
            (host, port), app, log=None, error_log=log, environ=environ, handler_class=_Handler
        )
        self._pool: Any = Pool(requests)

    @property
    def full(self) -> bool:
        return bool(self._pool.full())

    def serve(self, sock: Any, address: Any) -> None:
        """Take over a gevent socket, or what behaves like one. Call only when not `full`: it must not block the hub."""
        self._pool.spawn(self._serve, sock, address)

    def close(self, deadline_s: float) -> None:
        """Let requests under way finish, then end them."""
        self._pool.join(timeout=deadline_s)
        self._pool.kill(block=True, timeout=1.0)

    def _serve(self, sock: Any, address: Any) -> None:
        try:
            self._server.handle(sock, address)
        except OSError as error:
            log.debug("request of %s broke off: %s", address, error)
        finally:
            sock.close()
