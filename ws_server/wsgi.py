"""Everything on the port that is not the cluster's endpoint: gevent's pywsgi, without its accept loop."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from gevent import getcurrent, joinall
from gevent.pool import Group, Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import socket as GeventSocket

from .due import Due

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from .endpoint import Limits

log = logging.getLogger("ringway.ws_server.wsgi")

LEAVE = "ringway.leave"  # where a bridge's `leave` is in the WSGI environment


class ReadSocket(GeventSocket, Due):
    """A gevent socket of which `head` was read already: that comes first."""

    head = b""

    def recv_into(self, *args: Any) -> int:
        """As a socket's; the only way in which pywsgi's buffered reader reads."""
        if not self.head:
            return self._receive_into(*args)
        buffer = memoryview(args[0])
        count = min(len(self.head), len(buffer))
        buffer[:count] = self.head[:count]
        self.head = self.head[count:]
        return count

    def _receive_into(self, *args: Any) -> int:
        of_sending = self.gettimeout()
        self.settimeout(self.left_s)
        try:
            return super().recv_into(*args)
        except TimeoutError:
            raise self.too_late() from None
        finally:
            self.settimeout(of_sending)


class _Server(WSGIServer):
    limits: Limits


class _Handler(WSGIHandler):
    """pywsgi's, with a time for each head and each body as a whole.

    And without the traceback on stderr for every client that stalls or breaks off in its headers.
    """

    socket: Any  # ReadSocket or CooperativeTls
    server: Any  # a _Server

    def read_requestline(self) -> str:
        if self.socket.late:
            return ""  # ends the connection; an application, or pywsgi, may have let the error pass
        self.socket.due = time.monotonic() + self.server.limits.keep_alive_s
        line: str = super().read_requestline()
        return line

    def handle_one_response(self) -> None:
        self.socket.due = time.monotonic() + self.server.limits.wsgi_s
        super().handle_one_response()

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, OSError):
            log.debug("request of %s broke off: %s", self.client_address, ex)
            return None
        return super()._handle_client_error(ex)  # type: ignore[misc]  # provisional in gevent, and not in its stubs


class WsgiBridge:
    """Serves sockets that somebody else accepted, each in a greenlet of a bounded pool."""

    def __init__(self, app: WSGIApplication, address: tuple[str, int], limits: Limits, scheme: str = "http") -> None:
        host, port = address
        environ = {
            "SERVER_NAME": host,  # given, because pywsgi would ask DNS for it
            "SERVER_PORT": str(port),
            "wsgi.url_scheme": scheme,
            LEAVE: self.leave,
        }
        self._server: Any = _Server((host, port), app, log=None, error_log=log, environ=environ, handler_class=_Handler)
        self._server.limits = limits
        self._pool: Any = Pool(limits.wsgi_requests)
        self._upgraded: Any = Group()

    @property
    def full(self) -> bool:
        return bool(self._pool.full())

    def serve(self, sock: Any, address: Any) -> None:
        """Take over a gevent socket, or what behaves like one. Call only when not `full`: it must not block the hub."""
        self._pool.spawn(self._serve, sock, address)

    def leave(self) -> None:
        """The calling greenlet's request has become a WebSocket: it takes no other request's place any more."""
        greenlet = getcurrent()
        if greenlet in self._pool:
            self._pool.discard(greenlet)
            self._upgraded.add(greenlet)

    def close(self, deadline_s: float) -> None:
        """Let requests under way finish, then end them."""
        joinall([*self._pool, *self._upgraded], timeout=deadline_s)
        for group in (self._pool, self._upgraded):
            group.kill(block=True, timeout=1.0)

    def _serve(self, sock: Any, address: Any) -> None:
        try:
            self._server.handle(sock, address)
        except OSError as error:
            log.debug("request of %s broke off: %s", address, error)
        finally:
            sock.close()
