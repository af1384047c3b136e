"""Taking a WebSocket upgrade away from pywsgi, so that it neither reads from nor writes to the socket any more."""

from __future__ import annotations

from _socket import socket as RawSocket
from typing import TYPE_CHECKING, Any

from .handshake import Handshake, parse_query
from .tls import CooperativeTls
from .wsgi import LEAVE, ReadSocket

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .handler import Stream

ENDPOINT = "ringway.endpoint"  # where an Acceptor puts its own into the WSGI environment


def is_gevent(environ: WSGIEnvironment) -> bool:
    """Whether gevent's pywsgi serves this request."""
    return str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent")


def detach(environ: WSGIEnvironment) -> tuple[Stream, bytes]:
    """The request's socket, non-blocking, and what the client sent after its headers.

    pywsgi is left with a closed socket object: its next read ends its loop, and it has nothing to close. The
    application must not call `start_response`. Behind an Acceptor the request does not count as one any more.
    """
    environ.get(LEAVE, lambda: None)()
    reader: Any = environ["wsgi.input"]
    reader = getattr(reader, "rfile", reader)  # pywsgi wraps it unless the request asks for an upgrade
    owner: Any = reader.raw._sock
    taken = owner.detach()
    try:
        early = reader.peek()  # with nothing buffered it reads, and finds the socket closed
    except OSError:
        early = b""
    if isinstance(owner, ReadSocket | CooperativeTls):
        early += owner.head  # what of a long head was too much for the reader's buffer
    if not isinstance(taken, int):
        return taken, early
    sock = RawSocket(owner.family, owner.type, owner.proto, taken)
    sock.setblocking(False)
    return sock, early


def handshake_of(environ: WSGIEnvironment) -> Handshake:
    """The request as the handshake's rules want it."""
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    if "CONTENT_LENGTH" in environ:  # CGI has no HTTP_ for this one
        headers["content-length"] = environ["CONTENT_LENGTH"]
    peer = f"{environ.get('REMOTE_ADDR', '')}:{environ.get('REMOTE_PORT', '0')}"
    minor = 0 if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" else 1
    query = parse_query(environ.get("QUERY_STRING", ""))
    return Handshake(environ["PATH_INFO"], query, headers, peer, environ["REQUEST_METHOD"], minor)
