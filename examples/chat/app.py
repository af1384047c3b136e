"""A chat with a lobby and private messages: `ringway dev --app examples.chat.app:setup`.

The page, a Flask route, and the handlers run on every node; which node serves the page does not matter, because the
page's client asks the lookup for the user's own node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Response, jsonify, send_file

import ringway.client_sdk

if TYPE_CHECKING:
    from ringway.ws_server.app import Node
    from ringway.ws_server.sessions import Session

HERE = Path(__file__).parent
SDK = Path(ringway.client_sdk.__file__).parent / "js" / "ringway.js"
LOBBY = "lobby"
BOT = "bot"


def setup(node: Node) -> None:
    """Called once on each node."""

    @node.flask.get("/chat")
    def page() -> Response:
        return send_file(HERE / "index.html")

    @node.flask.get("/chat/ringway.js")
    def sdk() -> Response:
        return send_file(SDK, mimetype="text/javascript")

    @node.flask.get("/chat/here")
    def here() -> Response:
        return jsonify(node=node.id, sessions=node.session_count)

    @node.authorize
    def allowed(session: Session, action: str, target: str) -> bool:
        """One room; private messages to anybody; nobody speaks as the bot."""
        return session.uid != BOT and (action == "send" or target == LOBBY)

    @node.on_online
    def came(uid: str) -> None:
        node.publish(LOBBY, {"event": "came", "who": uid}, from_=BOT)

    @node.on_offline
    def went(uid: str) -> None:
        node.publish(LOBBY, {"event": "went", "who": uid}, from_=BOT)

    @node.on_message
    def to_the_bot(session: Session, message: Any) -> bool:
        """Private messages to the bot are answered here; all others go their way."""
        if message.to != (BOT,):
            return False
        node.send(session.uid, {"text": f"{session.uid}, you are on {node.id}"}, from_=BOT)
        return True
