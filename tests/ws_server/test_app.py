"""An application on a real node: handlers, routes, and what it may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ringway.core.errors import InvalidInput
from ringway.ws_server.app import Node
from ringway.ws_server.hooks import Hooks
from tests.harness import redises, web, zookeepers

from .nodes import Nodes, RunningNode, until

APP = "tests.ws_server.chat:setup"


@pytest.fixture(scope="module")
def chat(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    with Nodes(zookeeper_server.address, redis_server.url, "c1", "c2", env={"RINGWAY_APP": APP}) as running:
        yield running


@pytest.fixture(autouse=True)
def _close(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "chat" in request.fixturenames:
        running: Nodes = request.getfixturevalue("chat")
        while running.clients:
            running.clients.pop().close()


@pytest.fixture
def node(chat: Nodes) -> RunningNode:
    return chat.nodes["c1"]


def lines(nodes: Nodes, uid: str) -> list[str]:
    return [line for node in nodes.nodes.values() for line in node.get(f"/log?uid={uid}").json()]


def post(node: RunningNode, path: str, body: Any, **query: str) -> Any:
    return web.post(node.http + path, params=query, json=body, timeout=10.0).json()


def test_a_handler_answers_and_the_sender_has_its_ok(chat: Nodes) -> None:
    client = chat.join("app-alice")
    client.send(t="send", id="e1", to="echo", body=[1])
    got = client.wait("msg")
    assert (got["body"]["echo"], got["id"], got["ch"]) == ([1], "e1", "u:app-alice")
    assert got["body"]["since"] == client.frames[0]["sid"]
    assert client.wait("ok")["id"] == "e1"


def test_the_handler_runs_again_for_a_message_that_is_sent_again_and_can_tell_it_by_its_id(chat: Nodes) -> None:
    """As a client does whose connection broke before the ok: at least once, not exactly once."""
    for _ in range(2):
        client = chat.join("app-insistent")
        client.send(t="send", id="order-1", to="echo", body="buy")
        assert client.wait("msg")["id"] == "order-1"
        client.close()


def test_a_body_that_cannot_be_written_is_the_callers_error() -> None:
    missing: Any = None
    node = Node("n1", Hooks(), missing, missing, missing, missing, missing, missing)
    deep = orjson.loads("[" * 300 + "]" * 300)
    for call in (lambda: node.send("bob", deep), lambda: node.publish("room", deep), lambda: node.broadcast(deep)):
        with pytest.raises(InvalidInput, match="nested at most 254 levels deep"):
            call()


def test_what_the_handler_leaves_alone_is_delivered(chat: Nodes) -> None:
    receiver, sender = chat.join("app-receiver"), chat.join("app-sender")
    sender.send(t="send", id="1", to="app-receiver", body="plain")
    assert receiver.bodies(1) == ["plain"]


def test_a_slow_handler_keeps_the_order_of_its_session_and_holds_up_nobody_else(chat: Nodes) -> None:
    slow, quick = chat.join("app-slow"), chat.join("app-quick")
    slow.send(t="send", id="1", to="echo", body="slow")
    slow.send(t="send", id="2", to="echo", body="after")
    quick.send(t="send", id="3", to="echo", body="meanwhile")
    assert quick.wait("msg", 0.25)["body"]["echo"] == "meanwhile"
    assert [body["echo"] for body in slow.bodies(2)] == ["slow", "after"]


def test_a_handler_that_raises_is_told_counted_and_stops_nothing(chat: Nodes) -> None:
    client = chat.join("app-failing")
    node = chat.nodes[chat.owner("app-failing")]
    before = node.metric("handler_errors_total", handler="message")
    client.send(t="send", id="1", to="echo", body="fail")
    error = client.wait("error")
    assert (error["code"], error["id"]) == ("failed", "1")
    assert node.metric("handler_errors_total", handler="message") == before + 1
    client.send(t="send", id="2", to="echo", body="fine")
    assert client.bodies(1)[0]["echo"] == "fine"


def test_the_connect_handler_refuses_a_user(chat: Nodes) -> None:
    with chat.connect("banned-bob") as client:
        assert client.closed() == 4003
        assert client.frames == []


@pytest.mark.parametrize(("roles", "allowed"), [((), False), (("admin",), True)])
def test_the_authorize_handler_decides(chat: Nodes, roles: tuple[str, ...], allowed: bool) -> None:
    client = chat.join(f"app-authorized-{allowed}", roles=roles)
    client.send(t="send", id="1", to="secret-agent", body=1)
    client.send(t="join", group="secret-room")
    answers = [client.read(), client.read()]
    assert sorted(answer["t"] for answer in answers) == (["joined", "ok"] if allowed else ["error", "error"])
    if not allowed:
        assert [answer["code"] for answer in answers] == ["forbidden", "forbidden"]
        assert answers[1]["group"] == "secret-room"


def test_a_publish_right_after_its_join_is_judged_after_it(chat: Nodes) -> None:
    """As a client says them on each new connection: the join first, then what still waits for its ok."""
    client = chat.join("app-returned", roles=("admin",))
    client.send(t="join", group="secret-room")
    client.send(t="publish", id="p1", group="secret-room", body=1)
    assert client.wait("ok")["id"] == "p1"


def test_an_ack_right_after_its_join_is_judged_after_it(chat: Nodes) -> None:
    """What a client read last before its connection broke, said again with the join on the next one."""
    client = chat.join("app-reader", roles=("admin",))
    client.send(t="join", group="secret-letters")
    client.send(t="publish", id="p1", group="secret-letters", body=1)
    message = client.wait("msg")
    client.close()
    client = chat.join("app-reader", roles=("admin",))
    at = {"gen": message["gen"], "seq": message["seq"]}
    client.send(t="join", group="secret-letters", **{"from": at})
    client.send(t="ack", ch="g:secret-letters", **at)
    client.wait("joined")
    cursor = chat.keys.cursor("app-reader")
    until(lambda: chat.redis.hget(cursor, "g:secret-letters") == f"{at['gen']}:{at['seq']}".encode(), "it is read")
    assert "error" not in [frame["t"] for frame in client.frames]


def test_online_and_offline_come_once_a_user_not_once_a_tab(chat: Nodes) -> None:
    uid = "app-presence"
    tabs = [chat.join(uid), chat.join(uid)]
    until(lambda: lines(chat, uid) == [f"online {uid}"], "online")
    tabs[0].close()
    tabs[1].close()
    again = chat.join(uid)  # a reload of the page
    until(lambda: len(lines(chat, uid)) == 3, "both tabs left")
    assert [line.split()[0] for line in lines(chat, uid)] == ["online", "left", "left"]
    again.close()
    until(lambda: lines(chat, uid)[-1] == f"offline {uid}", "offline")


def test_a_move_is_neither_offline_nor_online(chat: Nodes) -> None:
    uid = chat.uid_of("c1", "app-mover")
    client = chat.join(uid, "c1")
    until(lambda: lines(chat, uid) == [f"online {uid}"])
    chat.ring("c2", seen_by=("c2",))
    moved = chat.join(uid, "c2")
    client.close()
    until(lambda: f"left {uid} 1000" in lines(chat, uid))
    moved.quiet(2.0)
    chat.ring("c1", "c2")
    assert sorted(lines(chat, uid)) == [f"left {uid} 1000", f"online {uid}"]


def test_the_application_pushes_from_its_routes(chat: Nodes, node: RunningNode) -> None:
    uid = chat.uid_of("c2", "app-pushed")
    client = chat.join(uid)
    client.send(t="join", group="app-room")
    client.wait("joined")
    assert post(node, "/push", {"a": 1}, uid=uid, id="p1") == {"seq": 1}
    assert post(node, "/push", {"a": 1}, uid=uid, id="p1") == {"seq": 1}
    assert post(node, "/publish", "to all of you", group="app-room") == {"seq": 1}
    post(node, "/broadcast", "everybody")
    assert client.bodies(3) == [{"a": 1}, "to all of you", "everybody"]


def test_flask_and_sock_routes_share_the_port(node: RunningNode) -> None:
    assert node.get("/livez").json()["node"] == "c1"
    assert node.get("/nothing").status_code == 404
    with connect(node.http.replace("http", "ws") + "/raw") as raw:
        raw.send("through flask-sock")
        assert raw.recv() == "through flask-sock"


def test_an_inline_handler_answers_from_the_event_loop(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> None:
    env = {"RINGWAY_APP": "tests.ws_server.chat:inline", "RINGWAY_RATE_LIMIT": "100"}
    with Nodes(zookeeper_server.address, redis_server.url, "i1", env=env) as running:
        client = running.join("inline")
        assert client.frames[0]["rate"] == 100.0
        client.send(t="send", id="1", to="echo", body="fail")
        assert client.wait("error")["code"] == "failed"
        client.send(t="send", id="2", to="echo", body="now")
        assert (client.read()["body"], client.read()["t"]) == ("now", "ok")
        client.socket.send("#own format")
        assert client.socket.recv(5) == "#own format"
        with suppress(ConnectionClosed):  # the node may have closed it before all are sent
            for _ in range(700):
                client.send(t="ping")
        assert client.closed() == 4102


def test_only_who_has_the_role_broadcasts_to_every_session_of_the_cluster(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> None:
    env = {"RINGWAY_BROADCAST_ROLES": "herald,admin"}
    with Nodes(zookeeper_server.address, redis_server.url, "b1", "b2", env=env) as running:
        others = [running.join(running.uid_of(node)) for node in ("b1", "b2")]
        herald = running.join("herald", roles=("herald",))
        herald.send(t="broadcast", id="1", body={"maintenance": "at noon"})
        assert "seq" not in herald.wait("ok", id="1")
        for client in others:
            message = client.wait("msg")
            assert (message["ch"], message["from"], message["body"]) == ("*", "herald", {"maintenance": "at noon"})
            assert "seq" not in message
        others[0].send(t="broadcast", id="2", body="me too")
        error = others[0].wait("error")
        assert (error["code"], error["id"]) == ("forbidden", "2")
        assert "admin or herald" in error["message"]


def test_nobody_broadcasts_where_no_role_may(chat: Nodes) -> None:
    client = chat.join("app-herald", roles=("admin",))
    client.send(t="broadcast", id="1", body=1)
    assert client.wait("error", id="1")["code"] == "forbidden"


def test_one_session_a_user_where_asked_for(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> None:
    env = {"RINGWAY_SINGLE_SESSION": "1", "RINGWAY_PUBLISH_ROLES": "speaker"}
    with Nodes(zookeeper_server.address, redis_server.url, "s1", env=env) as running:
        old = running.join("single")
        new = running.join("single", roles=("speaker",))
        assert old.closed() == 4009
        new.send(t="publish", id="1", group="anything", body=1)
        assert new.wait("ok")["id"] == "1"
        until(lambda: running.nodes["s1"].metric("sessions") == 1)
        other = running.join("listener")
        other.send(t="publish", id="1", group="anything", body=1)
        assert other.wait("error")["code"] == "forbidden"
        other.send(t="send", id="2", to="single", body="still here")
        assert new.bodies(1) == ["still here"]


def test_what_is_said_before_the_connect_handlers_answer_is_heard_up_to_128_kib(chat: Nodes, node: RunningNode) -> None:
    large = '{"t":"ping","pad":"' + "x" * 60_000 + '"}'
    much, enough = (chat.connect(f"undecided-{name}", "c1", epoch=99) for name in ("much", "enough"))
    for client, count in ((enough, 3), (much, 4)):
        for _ in range(count):
            client.socket.send(large)
    assert much.closed() == 4000
    assert much.frames == []
    post(node, "/decide", None)
    assert sorted(enough.read()["t"] for _ in range(4)) == ["pong", "pong", "pong", "welcome"]
