"""The applications that test_ended.py runs on nodes without a garbage collector, and the count of what is alive."""

from __future__ import annotations

import gc
from collections import Counter

from ringway.core.frames import Send
from ringway.ws_server.app import Node
from ringway.ws_server.sessions import Session

# What one client costs; a file of its own for each socket too, which the tests count as descriptors.
OURS = frozenset({
    "Arriving", "CatchUp", "Channel", "Connection", "CooperativeTls", "Deflate", "Greeting", "Greenlet", "Handshake",
    "Mailbox", "Outbox", "ReadSocket", "Reader", "Session", "TlsStream", "User", "WebSocket", "_Handler", "_Read",
    "_SSLSocket",
})  # fmt: skip


def alive() -> Counter[str]:
    """How many objects of each of those types there are, garbage included."""
    return Counter(name for each in gc.get_objects() if (name := type(each).__name__) in OURS)


def plain(node: Node) -> None:
    """No handlers, and a flask-sock route."""
    gc.disable()
    node.flask.get("/alive")(lambda: dict(alive()))

    @node.sock.route("/raw")
    def raw(ws: object) -> None:
        ws.send(ws.receive())  # type: ignore[attr-defined]


def hooked(node: Node) -> None:
    """All kinds of handlers, some of which fail."""
    plain(node)

    @node.on_connect
    def connected(session: Session) -> bool:
        session.data = {"session": session.sid}
        return not session.uid.startswith("banned")

    @node.on_message
    def said(session: Session, message: Send) -> None:
        if message.body == "fail":
            raise RuntimeError("as asked")

    @node.on_text
    def own(session: Session, payload: bytes) -> bool:
        if payload == b"fail":
            raise RuntimeError("as asked")
        return payload.startswith(b"#")

    @node.on_disconnect
    def left(session: Session, code: int, reason: str) -> None:
        assert session.conn.closed

    @node.authorize
    def may(session: Session, action: str, target: str) -> bool:
        return target != "secret"
