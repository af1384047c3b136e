"""The application behind ringway's figures: echo, and fan-out to all sessions of the node."""

from __future__ import annotations

from ringway.core.frames import Send
from ringway.ws_server.app import Node
from ringway.ws_server.sessions import Session


def setup(node: Node) -> None:
    everybody: set[Session] = set()
    node.on_connect(everybody.add)
    node.on_disconnect(lambda session, _code, _reason: everybody.discard(session))

    @node.on_message(inline=True)
    def echo(session: Session, message: Send) -> bool:
        session.send(message.body)
        return True
