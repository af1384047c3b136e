"""The node's port: accepts, answers the cluster endpoint's upgrades itself, gives everything else to pywsgi."""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from _socket import socket as RawSocket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY
from socket import socket as Socket
from typing import TYPE_CHECKING, Any, Protocol

from gevent.socket import socket as GeventSocket

from ringway.core.close_codes import CloseCode

from .connection import Connection, Handler, Stream
from .detach import ENDPOINT, detach, handshake_of
from .endpoint import Counters, Endpoint, Limits
from .greeting import Greeting
from .handshake import Accept, Handshake, Refuse, accept_response, agree_deflate, check, refuse_response
from .tls import TlsContext, TlsFiles, TlsStream
from .wire import encode_close
from .wsgi import WsgiBridge

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("ringway.ws_server.acceptor")

READ = 1
ACCEPTS = 64  # per wake-up, so that a flood of connects leaves room for those who are in
PAUSE_S = 0.25
LOG_EVERY_S = 10.0
SPARE_DESCRIPTORS = 64  # for Redis, ZooKeeper, logs, HTTP requests
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = Refuse(503, "too many handshakes at once; try again", "handshake limit", {"Retry-After": "2"})
_WSGI_BUSY = Refuse(503, "too many requests at once; try again", "request limit", {"Retry-After": "2"})
_BROKEN = Refuse(500, "the handshake failed on the server", "error")
_FULL = Refuse(503, "the node is full; try another", "node full", {"Retry-After": "2"})
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
    ) -> None:
        self.endpoint = Endpoint(limits, counters)
        self.address: Any = listener.getsockname()
        self._listener = listener
        # The plain descriptor: a socket object per client, only to take it apart again, costs as much as the accept.
        raw: Any = getattr(listener, "_sock", listener)
        self._accept: Callable[[], tuple[int, Any]] = raw._accept
        self._handler = handler
        self._path = path
        self._prefix = f"GET {path}".encode()
        self._tls = TlsContext(tls) if tls is not None else None
        self._wsgi = self._bridge(wsgi_app) if wsgi_app is not None else None
        self._greetings: set[Greeting] = set()
        self._watcher: Any = None
        self._reserve = -1
        self._logged_at = float("-inf")

    def start(self) -> None:
        """Accept from now on. The listener must be bound and listening."""
        if self._listener.family in (AF_INET, AF_INET6):
            self._listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # accepted sockets inherit it
        self._listener.setblocking(False)
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._check_descriptors()
        self._watcher = self.endpoint.loop.io(self._listener.fileno(), READ)
        self._watcher.start(self._on_acceptable)

    def stop_accepting(self) -> None:
        """Close the listening socket, so that new clients go elsewhere at once. Connections stay."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
            os.close(self._reserve)
        self._listener.close()

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

    @property
    def full(self) -> bool:
        """At the limit of connections."""
        return self.endpoint.counters.open >= self.endpoint.limits.connections

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
        if self.full:
            # Upgraded all the same: a browser would show the page no HTTP status, but it does show a close code.
            self.count_refused("node full")
            self.endpoint.counters.count_close(CloseCode.NODE_FULL, "node full")
            greeting.say_and_linger(accept_response(request) + encode_close(CloseCode.NODE_FULL))
            return
        verdict = self.ask(request)
        if isinstance(verdict, Refuse):
            greeting.refuse(verdict)
            return
        greeting.release()
        self.connect(greeting.stream, request, verdict, early)

    def connect(self, stream: Stream, request: Handshake, verdict: Accept, early: bytes) -> None:
        """From here on it is a connection."""
        deflate = agree_deflate(request) if self.endpoint.limits.deflate else None
        connection = Connection(stream, self.endpoint, self._handler, request.peer, deflate=deflate)
        connection.open(accept_response(request, verdict.subprotocol, deflate), request, early)

    def hand_over(self, greeting: Greeting, head: bytes) -> None:
        """Not the cluster's endpoint: pywsgi's."""
        if self._wsgi is None:
            greeting.refuse(_NOT_FOUND)
            return
        if self._wsgi.full:
            greeting.refuse(_WSGI_BUSY)
            return
        greeting.release()
        host, _, port = greeting.peer.rpartition(":")
        self._wsgi.serve(self._cooperative(greeting.stream, head), (host, int(port)))

    def _cooperative(self, stream: Stream, head: bytes) -> Any:
        """The same descriptor as pywsgi wants it: blocking its greenlet."""
        timeout_s = self.endpoint.limits.wsgi_s
        if isinstance(stream, TlsStream):
            return stream.cooperative(head, timeout_s)
        assert isinstance(stream, RawSocket)
        sock = GeventSocket(stream.family, stream.type, stream.proto, stream.detach())
        sock.settimeout(timeout_s)
        return sock

    # -- accepting

    def _on_acceptable(self) -> None:
        for _ in range(ACCEPTS):
            try:
                descriptor, address = self._accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._accept_failed(error)
                return
            self._greet(descriptor, address)
            if self._watcher is None:
                return

    def _greet(self, descriptor: int, address: Any) -> None:
        sock = RawSocket(self._listener.family, self._listener.type, self._listener.proto, descriptor)
        sock.setblocking(False)
        peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix:0"
        if len(self._greetings) >= self.endpoint.limits.handshakes:
            self._turn_away(sock)
        elif self._tls is None:
            Greeting(self, sock, peer).start_plain(sock)
        else:
            stream = self._tls.wrap(sock)
            Greeting(self, stream, peer).start_tls(stream)

    def _turn_away(self, sock: RawSocket) -> None:
        """Over the limit of handshakes: one answer, no state."""
        self.count_refused(_BUSY.cause)
        try:
            if self._tls is None:
                sock.send(refuse_response(_BUSY))
        except OSError:
            log.debug("turned away a client that was gone already")
        sock.close()

    def ask(self, request: Handshake) -> Accept | Refuse:
        try:
            return self._handler.on_request(request)
        except Exception:
            self.endpoint.counters.handler_errors += 1
            log.exception("on_request failed for %s", request.peer)
            return _BROKEN

    def _accept_failed(self, error: OSError) -> None:
        """Out of descriptors: shed one client with the reserve, pause, and go on when others have left."""
        name = errno.errorcode.get(error.errno or 0, "unknown")
        self.endpoint.counters.accept_errors[name] += 1
        if time.monotonic() - self._logged_at > LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.error("accept failed (%s): %s; %d connections are open", name, error, self.endpoint.counters.open)
        if error.errno in _EXHAUSTED:
            self._shed_one()
            self._watcher.stop()
            self.endpoint.heartbeat.schedule(self, PAUSE_S)

    def _shed_one(self) -> None:
        """A client in the backlog would wait for an answer that cannot come: close it, so that it tries elsewhere."""
        os.close(self._reserve)
        try:
            descriptor, _ = self._accept()
            os.close(descriptor)
        except OSError as error:
            log.debug("nothing to shed: %s", error)
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def on_due(self, now: float) -> None:
        """The heartbeat's call after a pause."""
        if self._watcher is not None:
            self._watcher.start(self._on_acceptable)

    def _check_descriptors(self) -> None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.endpoint.limits.connections + SPARE_DESCRIPTORS
        if allowed != resource.RLIM_INFINITY and allowed < wanted:
            log.warning("ulimit -n is %d, the connection limit needs %d; accepting pauses before it", allowed, wanted)

    def _late_upgrades(self, app: WSGIApplication) -> WSGIApplication:
        """A proxy may send an upgrade on a connection that it used, and kept alive, for a plain request."""

        def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ[ENDPOINT] = self.endpoint
            if environ["PATH_INFO"] != self._path:
                return app(environ, start_response)
            request = handshake_of(environ)
            verdict = check(request, self.endpoint.limits.origins) or (_FULL if self.full else self.ask(request))
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
        return WsgiBridge(
            self._late_upgrades(app), self.address[:2], requests=self.endpoint.limits.wsgi_requests, scheme=scheme
        )
