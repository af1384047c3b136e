"""From an upgrade request that was accepted to a connection; or to nothing at all, where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connection import Connection
from .handshake import accept_response

if TYPE_CHECKING:
    from .deflate import Deflate
    from .endpoint import Endpoint
    from .handler import Handler, Stream
    from .handshake import Handshake


def open_connection(
    stream: Stream,
    endpoint: Endpoint,
    handler: Handler,
    request: Handshake,
    early: bytes,
    subprotocol: str | None = None,
    deflate: Deflate | None = None,
) -> None:
    """Answer 101 on `stream` and go on as a connection, with the bytes that came `early`.

    Whatever it raises, the connection is gone by then: not watched, not counted as open, its socket closed.
    """
    response = accept_response(request, subprotocol, deflate)
    connection = Connection(stream, endpoint, handler, request.peer, deflate=deflate)
    try:
        connection.open(response, request, early)
    except Exception:
        connection.abort("error")
        raise
