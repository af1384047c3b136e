"""The node's port: accepts, answers the cluster endpoint's upgrades itself, gives everything else to pywsgi."""

from __future__ import annotations

import logging
from _socket import socket as RawSocket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socket import socket as Socket
from typing import TYPE_CHECKING, Any, Protocol

from ringway.core.close_codes import CloseCode

from .burst import Burst
from .detach import ENDPOINT, detach, handshake_of
from .endpoint import Counters, Endpoint, Limits
from .greeting import READ_BYTES, Greeting
from .handler import Handler, Stream
from .handshake import (
    FULL,
    Accept,
    Handshake,
    Refuse,
    Requests,
    accept_response,
    agree_deflate,
    check,
    json_response,
    refuse_response,
)
from .listening import Listening
from .tls import OVERLOADED, TlsContext, TlsFiles, TlsStream
from .upgrade import open_connection
from .wire import encode_close
from .wsgi import ReadSocket, WsgiBridge

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("ringway.ws_server.acceptor")

_BUSY = Refuse(503, "too many handshakes at once; try again", "handshake limit", {"Retry-After": "2"})
_WSGI_BUSY = Refuse(503, "too many requests at once; try again", "request limit", {"Retry-After": "2"})
_LIVEZ = (b"GET /livez ", b"GET /livez?")
_BROKEN = Refuse(500, "the handshake failed on the server", "error")
_NOT_FOUND = Refuse(404, "nothing is served here", "not found")


class Gate(Handler, Protocol):
    """The application's side of the cluster endpoint."""

    def on_request(self, request: Handshake, /) -> Accept | Refuse:
        """Whether to upgrade. Must not block."""


class Acceptor:
    """Serves one listening socket. `close` ends it for good."""

    def __init__(
        self,
        listener: Socket,
        *,
        handler: Gate,
        wsgi_app: WSGIApplication | None = None,
        path: str = "/ws",
        limits: Limits | None = None,
        tls: TlsFiles | None = None,
        counters: Counters | None = None,
        alive: Callable[[], bytes] | None = None,
        burst: Burst | None = None,
    ) -> None:
        """
        Args:
            alive: the JSON that answers GET /livez where `wsgi_app`, which it is left to otherwise, is full.
            burst: shared with whoever sends many messages in one go.
        """
        self.endpoint = Endpoint(limits, counters, burst)
        self.address: Any = listener.getsockname()
        self._listening = Listening(listener, self.endpoint, self._greet)
        self.requests = Requests(self.endpoint.limits.origins)
        self._handler = handler
        self._alive = alive
        self._path = path
        self._prefix = f"GET {path}".encode()
        self._tls = TlsContext(tls) if tls is not None else None
        self._wsgi = self._bridge(wsgi_app) if wsgi_app is not None else None
        self._greetings: set[Greeting] = set()

    def start(self) -> None:
        """Accept from now on. The listener must be bound and listening."""
        self._listening.start()

    def stop_accepting(self) -> None:
        """Close the listening socket, so that new clients go elsewhere at once. Connections stay."""
        self._listening.stop()

    def close(self, deadline_s: float, code: int = CloseCode.GOING_AWAY, reason: str = "", cause: str = "stop") -> None:
        """Stop accepting, say goodbye, wait up to `deadline_s`, then drop the rest. Blocks the calling greenlet."""
        self.stop_accepting()
        for greeting in list(self._greetings):
            greeting.drop(cause)
        for connection in list(self.endpoint.connections):
            connection.close(code, reason, cause)
        if not self.endpoint.wait_empty(deadline_s):
            for connection in list(self.endpoint.connections):
                connection.abort(cause)
        if self._wsgi is not None:
            self._wsgi.close(deadline_s)
        self.endpoint.close()

    def reload_tls(self) -> None:
        """Read the certificate and key again, for new connections (SIGHUP). A bad pair raises and changes nothing."""
        if self._tls is not None:
            self._tls.reload()

    # -- what greetings call

    def is_ours(self, seen: bytes) -> bool | None:
        """Whether a request that begins like this is for the cluster endpoint; None: too short to tell."""
        size = len(self._prefix)
        if len(seen) <= size:
            return None if self._prefix.startswith(seen) else False
        return seen.startswith(self._prefix) and seen[size] in b" ?"

    def remember(self, greeting: Greeting) -> None:
        self._greetings.add(greeting)
        self.endpoint.counters.handshakes = len(self._greetings)

    def forget(self, greeting: Greeting) -> None:
        self._greetings.discard(greeting)
        self.endpoint.counters.handshakes = len(self._greetings)

    def count_refused(self, cause: str) -> None:
        self.endpoint.counters.refused[cause] += 1

    def admit(self, greeting: Greeting, request: Handshake, early: bytes) -> None:
        """A correct upgrade request: ask the application, and make it a connection."""
        if self.endpoint.full:
            # Upgraded all the same: a browser would show the page no HTTP status, but it does show a close code.
            self.count_refused("node full")
            greeting.say_and_linger(accept_response(request) + encode_close(CloseCode.NODE_FULL))
            return
        verdict = self.ask(request)
        if isinstance(verdict, Refuse):
            greeting.refuse(verdict)
            return
        greeting.release(watched=True)  # two system calls less than to forget it and watch it again
        self.connect(greeting.stream, request, verdict, early)

    def connect(self, stream: Stream, request: Handshake, verdict: Accept, early: bytes) -> None:
        """From here on it is a connection."""
        deflate = agree_deflate(request) if self.endpoint.limits.deflate else None
        open_connection(stream, self.endpoint, self._handler, request, early, verdict.subprotocol, deflate)

    def hand_over(self, greeting: Greeting, head: bytes) -> None:
        """Not the cluster's endpoint: pywsgi's."""
        if self._wsgi is None:
            greeting.refuse(_NOT_FOUND)
            return
        if self._wsgi.full:
            self._say_busy(greeting, head)
            return
        greeting.release()
        host, _, port = greeting.peer.rpartition(":")
        self._wsgi.serve(self._cooperative(greeting.stream, head), (host, int(port)))

    def _say_busy(self, greeting: Greeting, head: bytes) -> None:
        """Too many requests; whether the node lives is told all the same, or the cluster would take it for dead."""
        if self._alive is not None and head.startswith(_LIVEZ):
            greeting.say_and_linger(json_response(self._alive()))
        else:
            greeting.refuse(_WSGI_BUSY)

    def _cooperative(self, stream: Stream, head: bytes) -> Any:
        """The same descriptor as pywsgi wants it: blocking its greenlet."""
        timeout_s = self.endpoint.limits.wsgi_s
        if isinstance(stream, TlsStream):
            return stream.cooperative(head, timeout_s)
        assert isinstance(stream, RawSocket)
        sock = ReadSocket(stream.family, stream.type, stream.proto, stream.detach())
        sock.head = head
        sock.settimeout(timeout_s)
        return sock

    def _greet(self, sock: RawSocket, peer: str) -> None:
        if len(self._greetings) >= self.endpoint.limits.handshakes:
            self._turn_away(sock, peer)
        elif self._tls is None:
            Greeting(self, sock, peer).start()
        else:
            Greeting(self, self._tls.wrap(sock), peer).start_tls()

    def _turn_away(self, sock: RawSocket, peer: str) -> None:
        """Over the limit of handshakes: one answer, no state. Over TLS it is an alert: a 503 would need a handshake."""
        self.count_refused(_BUSY.cause)
        try:
            sock.send(refuse_response(_BUSY) if self._tls is None else OVERLOADED)
            sock.recv(READ_BYTES)  # closing on unread input would reset the answer away
        except OSError as error:
            log.debug("turned %s away: %s", peer, error)
        sock.close()

    def ask(self, request: Handshake) -> Accept | Refuse:
        try:
            return self._handler.on_request(request)
        except Exception:
            self.endpoint.counters.handler_errors += 1
            log.exception("on_request failed for %s", request.peer)
            return _BROKEN

    def _late_upgrades(self, app: WSGIApplication) -> WSGIApplication:
        """A proxy may send an upgrade on a connection that it used, and kept alive, for a plain request."""

        def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ[ENDPOINT] = self.endpoint
            if environ["PATH_INFO"] != self._path:
                return app(environ, start_response)
            request = handshake_of(environ)
            refusal = check(request, self.endpoint.limits.origins) or (FULL if self.endpoint.full else None)
            verdict = refusal or self.ask(request)
            if isinstance(verdict, Refuse):
                self.count_refused(verdict.cause)
                start_response(f"{verdict.status} {HTTPStatus(verdict.status).phrase}", list(verdict.headers.items()))
                return [f"{verdict.body}\n".encode()]
            stream, early = detach(environ)
            self.connect(stream, request, verdict, early)
            return []

        return serve

    def _bridge(self, app: WSGIApplication) -> WsgiBridge:
        scheme = "http" if self._tls is None else "https"
        return WsgiBridge(self._late_upgrades(app), self.address[:2], self.endpoint.limits, scheme)
