"""`Sock`: flask-sock's extension on ringway's connections, for gevent's pywsgi, alone or behind an `Acceptor`.

A route's function runs in the greenlet that pywsgi gave the request, and only it costs one; reading, writing, pings and
the close handshake are the event loop's. Under any other server this is flask-sock itself. `ws` has what flask-sock's
users know of it: `send`, `receive`, `close`, `connected`, `subprotocol`, `environ`, and `ConnectionClosed`.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import flask_sock
from flask import Blueprint, Response, current_app, got_request_exception, request
from gevent import get_hub, getcurrent
from gevent.event import Event
from gevent.monkey import get_original
from simple_websocket import ConnectionClosed

from ringway.core.close_codes import CloseCode

from .detach import ENDPOINT, detach, handshake_of, is_gevent
from .endpoint import Endpoint, Limits
from .handshake import FULL, Handshake, Refuse, check
from .sending import HIGH_WATER, MESSAGE_BYTES, Handover, send_and_wait, send_in_loop
from .upgrade import open_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .connection import Connection

__all__ = ["ConnectionClosed", "Sock", "WebSocket"]

log = logging.getLogger("ringway.ws_server.sock")

NO_LIMIT = 1 << 62
_thread_id: Callable[[], int] = get_original("_thread", "get_ident")
_default_endpoint: list[Endpoint] = []
_Stock: Any = flask_sock.Sock  # by now: an application may put our class in its place


class Sock(flask_sock.Sock):  # type: ignore[misc]  # flask-sock has no types
    """Drop-in for `flask_sock.Sock`: the same constructor, `init_app` and `route`.

    `SOCK_SERVER_OPTIONS` knows `subprotocols`, `ping_interval` (always on, 25 s unless told) and `max_message_size`
    (unlimited unless told). The others tune what does not exist here, and are accepted without effect.
    """

    bp: Any

    def route(self, path: str, bp: Any = None, **kwargs: Any) -> Callable[[Callable[..., Any]], None]:
        """Decorate a function `f(ws, **path_variables)`; see flask-sock."""

        def decorator(function: Callable[..., Any]) -> None:
            stock = _stock_view(function)

            @wraps(function)
            def websocket_route(*args: Any, **values: Any) -> Any:
                if not is_gevent(request.environ):
                    return stock(*args, **values)
                return _serve(function, args, values)

            owner = bp or self.app or self.bp
            if owner is None:
                owner = self.bp = Blueprint("__flask_sock", __name__)
            owner.route(path, **{**kwargs, "websocket": True})(websocket_route)

        return decorator


class _Catcher:
    """Stands for a blueprint, to get at the view that flask-sock would register."""

    view: Callable[..., Any]

    def route(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], None]:
        def keep(view: Callable[..., Any]) -> None:
            self.view = view

        return keep


def _stock_view(function: Callable[..., Any]) -> Callable[..., Any]:
    catcher = _Catcher()
    _Stock().route("/", bp=catcher)(function)
    return catcher.view


class WebSocket:
    """One client, for the function of a route. Methods block their greenlet only."""

    mode = "gevent"

    def __init__(self, environ: WSGIEnvironment, subprotocol: str | None) -> None:
        self.environ = environ
        self.subprotocol = subprotocol
        self.connected = True
        self.close_reason: int = 1005
        self.close_message: str | None = None
        self._connection: Connection | None = None
        self._inbox: deque[str | bytes] = deque()
        self._inbox_size = 0
        self._arrived = Event()
        self._handover = Handover(get_hub().loop)
        self._thread = _thread_id()

    def send(self, data: str | bytes) -> None:
        """Send `bytes` as a binary message, anything else as text. Waits while the client is slow to read.

        Raises ConnectionClosed. From another thread than the server's the message is handed over and sent soon after;
        the thread waits for a slow client, with all that runs in it. A callback of the event loop cannot wait: when it
        sends to a client that is behind, that client is closed with 4101.
        """
        connection = self._open()
        binary = isinstance(data, bytes)
        payload = data if isinstance(data, bytes) else str(data).encode()
        if _thread_id() != self._thread:
            self._handover.send(connection, payload, binary=binary)
        elif getcurrent() is get_hub():
            send_in_loop(connection, payload, binary=binary)
        else:
            send_and_wait(connection, payload, binary=binary)
        self._open()

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message; None when `timeout` seconds brought none (0 does not wait). Raises ConnectionClosed."""
        while not self._inbox:
            self._open()
            if not self._arrived.wait(timeout):
                return None
            self._arrived.clear()
        message = self._inbox.popleft()
        self._inbox_size -= len(message) + MESSAGE_BYTES
        if self._inbox_size <= HIGH_WATER // 2 and self._connection is not None:
            self._connection.resume()
        return message

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Close with a code (1000 unless told) and a text for people. Raises ConnectionClosed when it is closed.

        Raises InvalidInput for a code that RFC 6455 does not let travel; nothing has changed then.
        """
        self._open().close(reason or CloseCode.NORMAL, message or "", "application")
        self.connected = False
        self._arrived.set()

    def _open(self) -> Connection:
        if not self.connected or self._connection is None:
            raise ConnectionClosed(self.close_reason, self.close_message)
        return self._connection

    # -- the connection's callbacks

    def on_open(self, connection: Connection, request: Handshake, /) -> None:
        self._connection = connection
        connection.user = self.environ.get("PATH_INFO")

    def on_text(self, connection: Connection, payload: bytes, /) -> None:
        self._take(connection, payload.decode())

    def on_binary(self, connection: Connection, payload: bytes, /) -> None:
        self._take(connection, payload)

    def on_close(self, connection: Connection, code: int, reason: str, cause: str, /) -> None:
        self.connected = False
        self._connection = None  # it knows this object: one of them must let go
        self.close_reason, self.close_message = code, reason
        self._arrived.set()

    def _take(self, connection: Connection, message: str | bytes) -> None:
        self._inbox.append(message)
        self._inbox_size += len(message) + MESSAGE_BYTES
        if self._inbox_size > HIGH_WATER:
            connection.pause()
        self._arrived.set()


class _Detached(Response):
    """The answer to a request whose socket is ours now: nothing, not even a status line."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        return []


def _serve(function: Callable[..., Any], args: tuple[Any, ...], values: dict[str, Any]) -> Response:
    environ = request.environ
    handshake = handshake_of(environ)
    endpoint: Endpoint = environ.get(ENDPOINT) or _own_endpoint()
    refusal = check(handshake, endpoint.limits.origins) or (FULL if endpoint.full else None)
    if refusal is not None:
        endpoint.counters.refused[refusal.cause] += 1
        return _refused(refusal)
    ws = _upgrade(environ, endpoint, handshake)
    code, message = CloseCode.NORMAL, ""
    try:
        function(ws, *args, **values)
    except ConnectionClosed:
        log.debug("the function of %s ended with its connection", handshake.path)
    except Exception as error:  # noqa: BLE001 - the boundary to the application; told to Flask as any view's error
        code, message = CloseCode.INTERNAL_ERROR, "internal error"
        got_request_exception.send(current_app._get_current_object(), exception=error)  # type: ignore[attr-defined]
        current_app.log_exception(sys.exc_info())
    if ws.connected:
        ws.close(code, message)
    return _Detached()


def _upgrade(environ: WSGIEnvironment, endpoint: Endpoint, handshake: Handshake) -> WebSocket:
    options: dict[str, Any] = current_app.config.get("SOCK_SERVER_OPTIONS", {})
    subprotocol = _choose(handshake.subprotocols, options.get("subprotocols") or ())
    stream, early = detach(environ)
    ws = WebSocket(environ, subprotocol)
    open_connection(stream, endpoint.sibling(_limits(options)), ws, handshake, early, subprotocol)
    return ws


def _limits(options: dict[str, Any]) -> Limits:
    """No limit on the queue: `send` waits instead."""
    ping_s = options.get("ping_interval") or 25.0
    size = options.get("max_message_size") or NO_LIMIT
    return Limits(message_bytes=size, queue_bytes=None, ping_s=ping_s, pong_s=min(10.0, ping_s))


def _choose(offered: list[str], known: str | list[str] | tuple[str, ...]) -> str | None:
    names = [known] if isinstance(known, str) else known
    return next((name for name in offered if name in names), None)


def _own_endpoint() -> Endpoint:
    """For a plain pywsgi server, which has limits of its own: one endpoint, made at its first WebSocket."""
    if not _default_endpoint:
        _default_endpoint.append(Endpoint(Limits(connections=NO_LIMIT)))
    return _default_endpoint[0]


def _refused(refusal: Refuse) -> Response:
    return Response(refusal.body + "\n", refusal.status, refusal.headers, content_type="text/plain; charset=utf-8")
