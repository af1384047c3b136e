"""Messages between sessions on two real nodes, over a real Redis."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ringway.store import Publisher
from ringway.store.client import connect as connect_redis
from ringway.store.log import MessageLog
from ringway.store.notices import EVERYBODY, Control, LogNotice, VolatileNotice, encode
from ringway.store.retained import Append
from tests.harness import redises, zookeepers

from .nodes import Client, Nodes, until

_ids = itertools.count()


def say(client: Client, to: str | list[str], body: Any, *, id: str | None = None, **more: Any) -> dict[str, Any]:
    """Send and wait for the answer."""
    id = id or f"d{next(_ids)}"
    client.send(t="send", id=id, to=to, body=body, **more)
    while True:
        frame = client.read()
        if frame.get("id") == id and frame["t"] in ("ok", "error"):
            return frame


def pair(nodes: Nodes, prefix: str) -> tuple[str, str]:
    """Two users, the first of n1 and the second of n2."""
    return nodes.uid_of("n1", f"{prefix}-a"), nodes.uid_of("n2", f"{prefix}-b")


def test_a_message_reaches_users_on_this_node_and_on_another(nodes: Nodes) -> None:
    a, b = pair(nodes, "both")
    local = nodes.uid_of("n1", "both-c")
    sender, here, there = nodes.join(a), nodes.join(local), nodes.join(b)
    assert say(sender, local, {"n": 1})["seq"] == 1
    assert say(sender, b, {"n": 2})["seq"] == 1
    for client, ch, n in ((here, local, 1), (there, b, 2)):
        got = client.wait("msg")
        assert (got["ch"], got["from"], got["body"], got["seq"]) == (f"u:{ch}", a, {"n": n}, 1)


def test_a_message_to_several_reaches_each(nodes: Nodes) -> None:
    users = [*pair(nodes, "several1"), *pair(nodes, "several2")]
    clients = [nodes.join(uid) for uid in users]
    answer = say(nodes.join("several-sender"), users, "all of you")
    assert answer["t"] == "ok"
    assert "seq" not in answer
    assert [client.bodies(1) for client in clients] == [["all of you"]] * 4


def test_every_session_of_a_user_gets_the_message(nodes: Nodes) -> None:
    tabs = [nodes.join("tabs") for _ in range(3)]
    say(nodes.join("tabs-sender"), "tabs", "hi")
    assert [tab.bodies(1) for tab in tabs] == [["hi"]] * 3


def test_many_messages_keep_their_order(nodes: Nodes) -> None:
    a, b = pair(nodes, "order")
    sender, receiver = nodes.join(a), nodes.join(b)
    for n in range(500):
        sender.send(t="send", id=f"order{n}", to=b, body=n)
    assert receiver.bodies(500) == list(range(500))
    assert [sender.wait("ok")["seq"] for _ in range(500)] == list(range(1, 501))


def test_the_same_id_is_the_same_message(nodes: Nodes) -> None:
    a, b = pair(nodes, "twice")
    sender, receiver = nodes.join(a), nodes.join(b)
    first = say(sender, b, "once", id="same")
    assert say(sender, b, "once", id="same") == first
    assert say(sender, b, "later")["seq"] == 2
    assert receiver.bodies(2) == ["once", "later"]


def test_an_absent_user_finds_what_is_unread(nodes: Nodes) -> None:
    sender = nodes.join("absent-sender")
    for n in range(300):
        sender.send(t="send", id=f"absent{n}", to="absent", body=n)
    for _ in range(300):
        sender.wait("ok")
    with nodes.connect("absent") as client:
        inbox = client.read()["inbox"]
        assert (inbox["seq"], inbox["unread"], inbox["recovered"]) == (300, 300, True)
        assert client.bodies(300) == list(range(300))
        client.send(t="ack", ch="u:absent", gen=inbox["gen"], seq=290)
        until(lambda: nodes.redis.hget(nodes.keys.cursor("absent"), "u:absent") == f"{inbox['gen']}:290".encode())
    with nodes.connect("absent") as client:
        assert client.read()["inbox"]["unread"] == 10
        assert client.bodies(10) == list(range(290, 300))


def test_two_devices_go_on_from_their_own_positions(nodes: Nodes) -> None:
    sender = nodes.join("devices-sender")
    phone = nodes.connect("devices")
    gen = phone.read()["inbox"]["gen"]
    for n in range(1, 6):
        say(sender, "devices", n)
    assert phone.bodies(5) == [1, 2, 3, 4, 5]
    laptop = nodes.connect("devices", inbox=f"{gen}:2")
    assert laptop.read()["inbox"]["unread"] == 3
    say(sender, "devices", 6)
    assert laptop.bodies(4) == [3, 4, 5, 6]
    assert phone.bodies(1) == [6]


def test_a_log_that_no_longer_reaches_back_is_said(nodes: Nodes) -> None:
    with nodes.connect("capped") as client:
        gen = client.read()["inbox"]["gen"]
    sender = nodes.join("capped-sender")
    for n in range(1, 1301):
        sender.send(t="send", id=f"capped{n}", to="capped", body=n)
    for _ in range(1300):
        sender.wait("ok")
    with nodes.connect("capped", inbox=f"{gen}:0") as client:
        inbox = client.read()["inbox"]
        assert inbox["recovered"] is False
        oldest = inbox["oldest"]
        assert 200 <= oldest <= 301
        assert client.bodies(1301 - oldest) == list(range(oldest, 1301))


def test_an_ack_of_another_users_inbox_is_refused(nodes: Nodes) -> None:
    client = nodes.join("ack-thief")
    client.send(t="ack", ch="u:somebody", gen="g", seq=1)
    assert client.wait("error")["code"] == "forbidden"


def test_volatile_messages_reach_both_nodes_and_no_log(nodes: Nodes) -> None:
    a, b = pair(nodes, "vol")
    local = nodes.uid_of("n1", "vol-c")
    sender, here, there = nodes.join(a), nodes.join(local), nodes.join(b)
    assert say(sender, [local, b], "now", volatile=True)["t"] == "ok"
    for client in (here, there):
        got = client.wait("msg")
        assert got["body"] == "now"
        assert "seq" not in got
    assert nodes.redis.exists(nodes.keys.log(f"u:{b}")) == 0


def joined(nodes: Nodes, uid: str, group: str, **more: Any) -> tuple[Client, dict[str, Any]]:
    client = nodes.join(uid)
    client.send(t="join", group=group, **more)
    return client, client.wait("joined")


def publish(client: Client, group: str, body: Any) -> dict[str, Any]:
    id = f"p{next(_ids)}"
    client.send(t="publish", id=id, group=group, body=body)
    while (frame := client.read()).get("id") != id or frame["t"] == "msg":
        pass
    return frame


def test_a_group_spans_the_nodes(nodes: Nodes) -> None:
    a, b = pair(nodes, "group")
    one, answer = joined(nodes, a, "room")
    two, _ = joined(nodes, b, "room")
    assert (answer["seq"], answer["unread"], answer["recovered"]) == (0, 0, True)
    assert publish(one, "room", "hello")["seq"] == 1
    got = two.wait("msg")
    assert (got["ch"], got["from"], got["body"]) == ("g:room", a, "hello")
    two.send(t="leave", group="room")
    assert two.wait("left")["group"] == "room"
    publish(one, "room", "gone?")
    assert two.quiet() == []


def test_a_group_is_joined_from_a_position_or_from_now_on(nodes: Nodes) -> None:
    a, b = pair(nodes, "history")
    one, answer = joined(nodes, a, "past")
    for n in range(1, 6):
        publish(one, "past", n)
    late, now = joined(nodes, b, "past")
    assert (now["seq"], now["unread"]) == (5, 0)
    place = {"gen": answer["gen"], "seq": 2}
    reader, told = joined(nodes, f"{b}-2", "past", **{"from": place})
    assert (told["unread"], told["from"]) == (3, place)
    assert "from" not in now
    publish(one, "past", 6)
    assert reader.bodies(4) == [3, 4, 5, 6]
    assert late.bodies(1) == [6]


def test_joining_again_goes_on_from_the_new_position(nodes: Nodes) -> None:
    client, answer = joined(nodes, "rejoin", "again")
    for n in (1, 2, 3):
        publish(client, "again", n)
    assert [f["body"] for f in client.frames if f["t"] == "msg"] + client.bodies(0) in ([1, 2, 3], [1, 2])
    client.send(t="join", group="again", **{"from": {"gen": answer["gen"], "seq": 1}})
    assert client.wait("joined")["unread"] == 2
    assert client.bodies(2) == [2, 3]


def test_only_members_may_publish(nodes: Nodes) -> None:
    assert publish(nodes.join("outsider"), "closed-room", 1)["code"] == "forbidden"


def test_members_for_good_come_back_to_their_groups_with_what_is_unread(nodes: Nodes) -> None:
    nodes.redis.sadd(nodes.keys.groups_of("member"), "for-good")
    speaker, _ = joined(nodes, "member-speaker", "for-good")
    publish(speaker, "for-good", "while you were out")
    with nodes.connect("member") as client:
        told = client.wait("joined")
        assert (told["group"], told["unread"]) == ("for-good", 1)
        assert client.bodies(1) == ["while you were out"]


def test_a_broadcast_reaches_everybody(nodes: Nodes) -> None:
    a, b = pair(nodes, "backend")
    one, two = nodes.join(a), nodes.join(b)
    frame = b'{"t":"msg","ch":"*","id":"b","from":"","body":"all","ts":1}'
    nodes.redis.publish(nodes.keys.all_channel, encode(VolatileNotice(EVERYBODY, frame)))
    assert one.bodies(1) == two.bodies(1) == ["all"]


def test_a_gap_in_the_notices_is_read_from_the_log(nodes: Nodes) -> None:
    """Messages whose notice got lost come with the next notice."""
    uid = nodes.uid_of("n2", "gap")
    receiver, sender = nodes.join(uid), nodes.join(nodes.uid_of("n1", "gap-sender"))
    say(sender, uid, 1)
    nodes.redis.set("unrelated", 1)
    appended = _append_quietly(nodes, uid, "lost on the way")
    say(sender, uid, 3)
    assert receiver.bodies(3) == [1, "lost on the way", 3]
    assert appended == 2


def _append_quietly(nodes: Nodes, uid: str, body: str) -> int:
    """A message whose notice reaches nobody."""
    client = connect_redis(nodes.env["RINGWAY_REDIS"])
    try:
        return MessageLog(client, nodes.keys).append(Append(f"u:{uid}", "ghost", "g1", f'"{body}"'.encode())).seq
    finally:
        client.close()


def test_a_back_end_keeps_as_many_messages_as_the_nodes_are_told_to(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> None:
    env = {"RINGWAY_LOG_CAP": "3000", "RINGWAY_LOG_TTL": "9000000"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", env=env) as nodes:
        until(lambda: nodes.redis.exists(nodes.keys.limits), "the node has said its limits")
        back_end = Publisher(nodes.redis, cluster=nodes.cluster)
        for n in range(1500):
            back_end.send("bob", n)
        receiver = nodes.join("bob")
        assert receiver.frames[-1]["inbox"]["unread"] == 1500
        assert nodes.redis.ttl(nodes.keys.log("u:bob")) > 8_000_000


def test_notices_out_of_order_and_doubled_are_sorted_out(nodes: Nodes) -> None:
    uid = nodes.uid_of("n1", "shuffled")
    receiver, sender = nodes.join(uid), nodes.join("shuffled-sender")
    say(sender, uid, "first")
    first = receiver.wait("msg")
    notice = LogNotice(first["ch"], first["gen"], first["seq"], b'{"t":"msg","body":"doubled"}')
    nodes.redis.publish(nodes.keys.node_channel("n1"), encode(notice))
    say(sender, uid, "second")
    assert receiver.bodies(1) == ["second"]
    assert receiver.quiet() == []


def test_a_notice_that_is_none_is_logged_and_forgotten(nodes: Nodes) -> None:
    nodes.redis.publish(nodes.keys.node_channel("n1"), b"garbage")
    uid = nodes.uid_of("n1", "garbage")
    receiver = nodes.join(uid)
    say(nodes.join("garbage-sender"), uid, "fine")
    assert receiver.bodies(1) == ["fine"]


@pytest.mark.parametrize("op", ["close", "sign_out"])
def test_an_order_ends_a_users_sessions(nodes: Nodes, op: str) -> None:
    uid = nodes.uid_of("n1", f"ordered-{op}")
    clients = [nodes.join(uid), nodes.join(uid)]
    nodes.redis.publish(nodes.keys.node_channel("n1"), encode(Control(op, {"uid": uid})))
    assert [client.closed() for client in clients] == [{"close": 4304, "sign_out": 4010}[op]] * 2
