"""The applications behind ringway's figures: echo, and fan-out to all sessions of the node, by the public callbacks."""

from __future__ import annotations

from ringway.ws_server.app import Node
from ringway.ws_server.sessions import Session
from ringway.ws_server.wire import encode_text


def echo(node: Node) -> None:
    @node.on_text
    def answer(session: Session, payload: bytes) -> bool:
        session.send_text(payload)
        return True


def fanout(node: Node) -> None:
    everybody: set[Session] = set()
    node.on_connect(everybody.add)
    node.on_disconnect(lambda session, _code, _reason: everybody.discard(session))

    @node.on_text
    def tell(session: Session, payload: bytes) -> bool:
        wire = encode_text(payload)
        for other in everybody:
            other.send_frame(wire)
        return True
