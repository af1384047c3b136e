"""The application that test_app.py runs on a node: what it does follows from the message."""

from __future__ import annotations

import gevent
from flask import Response, request
from gevent.event import Event

from ringway.core.frames import Send
from ringway.ws_server.app import Node
from ringway.ws_server.sessions import Session


def setup(node: Node) -> None:
    """Handlers that block, refuse, fail and answer."""
    log: list[str] = []
    decided = Event()

    @node.on_connect
    def connected(session: Session) -> bool:
        gevent.sleep(0.01)
        if session.uid.startswith("undecided"):
            decided.wait()
        session.data = {"since": session.sid}
        return not session.uid.startswith("banned")

    @node.on_message
    def said(session: Session, message: Send) -> object:
        if message.body == "fail":
            raise RuntimeError("as asked")
        if message.body == "slow":
            gevent.sleep(0.3)
        if message.to == ("echo",):
            session.send({"echo": message.body, "since": session.data["since"]}, id=message.id)
            return True
        return None

    @node.on_disconnect
    def left(session: Session, code: int, reason: str) -> None:
        log.append(f"left {session.uid} {code}")

    @node.on_online
    def online(uid: str) -> None:
        log.append(f"online {uid}")

    @node.on_offline
    def offline(uid: str) -> None:
        log.append(f"offline {uid}")

    @node.authorize
    def may(session: Session, action: str, target: str) -> bool:
        return not target.startswith("secret") or "admin" in session.roles

    @node.flask.get("/log")
    def show() -> list[str]:
        return [line for line in log if request.args["uid"] in line]

    @node.flask.post("/decide")
    def decide() -> dict[str, bool]:
        decided.set()
        return {"ok": True}

    @node.flask.post("/push")
    def push() -> Response | dict[str, int | None]:
        sent = node.send(request.args["uid"], request.get_json(), id=request.args.get("id"))
        return {"seq": sent.get(5.0)}

    @node.flask.post("/broadcast")
    def broadcast() -> dict[str, bool]:
        node.broadcast(request.get_json())
        return {"ok": True}

    @node.flask.post("/publish")
    def publish() -> dict[str, int | None]:
        return {"seq": node.publish(request.args["group"], request.get_json()).get(5.0)}

    @node.sock.route("/raw")
    def raw(ws: object) -> None:
        ws.send(ws.receive())  # type: ignore[attr-defined]


def inline(node: Node) -> None:
    """Echo in the event loop; what begins with # is not of the protocol."""

    @node.on_text
    def own(session: Session, payload: bytes) -> bool:
        if payload.startswith(b"#"):
            session.send_text(payload)
        return payload.startswith(b"#")

    @node.on_message(inline=True)
    def echo(session: Session, message: Send) -> bool:
        if message.body == "fail":
            raise RuntimeError("as asked")
        session.send(message.body, id=message.id)
        return True


def doorman(node: Node) -> None:
    """Has guests join the lobby before it has made up its mind about them."""

    @node.on_connect
    def connected(session: Session) -> bool:
        if session.uid.startswith("guest"):
            node.join(session, "lobby")
            gevent.sleep(0.3)
        return not session.uid.endswith("banned")


def members_only(node: Node) -> None:
    """Nobody joins a team by asking; the application says who is in it."""

    @node.authorize
    def may(session: Session, action: str, target: str) -> bool:
        return action != "join" or not target.startswith("team")

    @node.flask.post("/members")
    def members() -> dict[str, bool]:
        change = node.add_members if "add" in request.args else node.remove_members
        change(request.args["group"], request.get_json())
        return {"ok": True}
