"""Redis goes away and comes back: sessions stay, senders are told, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ringway.store.keys import Keys
from ringway.store.log import GRACE_S, MessageLog
from ringway.ws_server.groups import MAX_GROUPS
from tests.harness import redises, zookeepers
from tests.harness.logs import append, message

from .nodes import Client, Nodes, until


@pytest.fixture
def running(zookeeper_server: zookeepers.Provider, own_redis: redises.RealRedis) -> Iterator[Nodes]:
    with Nodes(zookeeper_server.address, own_redis.url, "r1", "r2") as nodes:
        yield nodes


def insist(client: Client, **message: Any) -> dict[str, Any]:
    """Send until it is in the log, as an SDK does; gives the `ok`."""
    while True:
        client.send(t="send", **message)
        answer = client.read(15.0)
        if answer["t"] == "ok":
            return answer
        assert answer["code"] == "unavailable"
        time.sleep(0.1)


def test_durable_messages_are_refused_and_go_through_again_later(running: Nodes, own_redis: redises.RealRedis) -> None:
    a, b, c = (running.uid_of(n, f"away-{i}") for i, n in enumerate(("r1", "r2", "r1")))
    sender, other, local = running.join(a), running.join(b), running.join(c)
    sender.send(t="send", id="1", to=[b, c], body="before")
    assert other.bodies(1) == local.bodies(1) == ["before"]
    sender.wait("ok")
    own_redis.stop()
    sender.send(t="send", id="2", to=b, body="durable")
    assert sender.wait("error", 10.0)["code"] == "unavailable"
    sender.send(t="send", id="3", to=c, body="volatile", volatile=True)
    assert sender.wait("ok")["id"] == "3"
    assert local.bodies(1) == ["volatile"]
    assert running.nodes["r1"].get("/readyz").status_code == 503
    assert running.nodes["r1"].metric("redis_up") == 0
    own_redis.start()
    until(lambda: all(node.get("/readyz").status_code == 200 for node in running.nodes.values()), "ready again")
    assert insist(sender, id="2", to=b, body="durable")["seq"] == 2
    got = other.wait("msg")
    assert (got["body"], got["seq"]) == ("durable", 2)
    position = next(frame for frame in other.frames if frame["t"] == "position")
    assert (position["ch"], position["recovered"], position["gen"]) == (f"u:{b}", True, got["gen"])


def test_a_session_that_opens_meanwhile_gets_its_messages_when_redis_is_back(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    uid = running.uid_of("r1", "latecomer")
    sender = running.join(running.uid_of("r2", "early-bird"))
    for n in (1, 2):
        sender.send(t="send", id=f"{n}", to=uid, body=n)
        sender.wait("ok")
    own_redis.stop()
    client = running.connect(uid)
    assert client.wait("welcome", 10.0)["inbox"] == {}
    client.send(t="join", group="patience")
    own_redis.start()
    assert client.bodies(2, 15.0) == [1, 2]
    kinds = [frame["t"] for frame in client.frames]
    assert kinds.index("position") < kinds.index("msg")
    assert "joined" in kinds or client.wait("joined", 15.0)


def test_groups_come_back_to_everybody_though_one_user_has_more_than_a_session_may_be_in(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    many, few = running.uid_of("r1", "many"), running.uid_of("r1", "few")
    running.redis.sadd(running.keys.groups_of(many), *[f"g{number}" for number in range(MAX_GROUPS)])
    running.redis.sadd(running.keys.groups_of(few), "team")
    own_redis.stop()
    full, other = running.connect(many), running.connect(few)
    full.wait("welcome", 10.0)
    full.send(t="join", group="one more")
    other.wait("welcome", 10.0)
    own_redis.start()
    assert other.wait("joined", 15.0)["group"] == "team"
    joined = {full.wait("joined", 15.0)["group"] for _ in range(MAX_GROUPS)}
    assert "one more" in joined
    assert len(joined) == MAX_GROUPS


def test_lost_subscriptions_cost_no_message(running: Nodes, own_redis: redises.RealRedis) -> None:
    uid = running.uid_of("r1", "dropped")
    receiver, sender = running.join(uid), running.join(running.uid_of("r2", "dropping"))
    sent = 0
    for _ in range(3):
        for _ in range(20):
            sent += 1
            sender.send(t="send", id=f"{sent}", to=uid, body=sent)
        own_redis.drop_clients()
    pending = {str(n) for n in range(1, sent + 1)}
    while pending:
        frame = sender.read(10.0)
        if frame["t"] == "ok":
            pending.discard(frame["id"])
        elif frame["t"] == "error":
            until(lambda: running.nodes["r2"].metric("redis_up") == 1)
            sender.send(t="send", id=frame["id"], to=uid, body=int(frame["id"]))
    bodies = receiver.bodies(sent, 15.0)
    assert sorted(bodies) == list(range(1, sent + 1))
    assert receiver.quiet() == []


def test_a_wiped_redis_is_said_to_open_sessions(running: Nodes, own_redis: redises.RealRedis) -> None:
    uid = running.uid_of("r1", "wiped")
    receiver, sender = running.join(uid), running.join(running.uid_of("r2", "wiper"))
    for n in (1, 2, 3):
        sender.send(t="send", id=f"{n}", to=uid, body=n)
        sender.wait("ok")
    assert receiver.bodies(3) == [1, 2, 3]
    own_redis.stop()
    own_redis.wipe()
    own_redis.start()
    insist(sender, id="4", to=uid, body=4)
    while (got := receiver.wait("msg", 15.0))["body"] != 4:
        assert got["was"]["seq"] == got["body"]  # said ok to a moment ago, so put into the log again, and marked
    assert any(frame["t"] == "position" for frame in receiver.frames)


def test_a_wiped_redis_whose_clock_is_behind_is_heard_all_the_same(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    """Its new gens sort before those that sessions have."""
    uid = running.uid_of("r1", "ahead")
    running.redis.hset(running.keys.meta(f"u:{uid}"), mapping={"g": "f000000000000abc", "s": 0, "r": "", "p": ""})
    receiver, sender = running.join(uid), running.join(running.uid_of("r2", "behind"))
    insist(sender, id="1", to=uid, body=1)
    before = receiver.wait("msg")
    own_redis.stop()
    own_redis.wipe()
    own_redis.start()
    insist(sender, id="2", to=uid, body=2)
    told = receiver.wait("position", 15.0)
    assert (told["gen"] < before["gen"], told["recovered"]) == (True, False)
    while (got := receiver.wait("msg"))["body"] != 2:
        assert got["was"] == {"gen": before["gen"], "seq": before["seq"]}
    late = running.join(uid)
    assert late.bodies(got["seq"])[-1] == 2


@pytest.mark.parametrize("restarted", [False, True])
def test_what_redis_lost_comes_back_and_no_gap_is_told(
    running: Nodes, own_redis: redises.RealRedis, restarted: bool
) -> None:
    """The power fails after messages that had their ok, and that some have had and others not.

    `restarted`: right before them, so that Redis loses all of the log's incarnation that they began.
    """
    uid = running.uid_of("r1", f"powerless-{restarted}")
    receiver, sender = running.join(uid), running.join(running.uid_of("r2", f"power-{restarted}"))
    for n in (1, 2, 3, 4, 5):
        if n == 4:
            if restarted:
                own_redis.restart()
            mark = own_redis.journal_size()
        insist(sender, id=f"{n}", to=uid, body=n)
    assert receiver.bodies(5) == [1, 2, 3, 4, 5]
    gen = receiver.frames[-1]["gen"]
    own_redis.lose_after(mark)
    insist(sender, id="6", to=uid, body=6)
    had_three = running.join(uid, inbox=f"{gen}:3")
    for client in (receiver, had_three):
        got = [client.wait("msg", 15.0) for _ in range(3)]
        was = [frame.get("was", {}).get("seq") for frame in got]
        assert [(frame["body"], seq) for frame, seq in zip(got, was, strict=True)] == [(4, 4), (5, 5), (6, None)]
        client.quiet(GRACE_S + 1.5)
        told = [frame for frame in client.frames if frame["t"] in ("position", "welcome")]
        assert all(frame.get("inbox", frame)["recovered"] for frame in told)


def test_who_had_what_redis_lost_is_told_its_new_place_at_once(running: Nodes, own_redis: redises.RealRedis) -> None:
    """Or nobody would ack it there, and it was unread until the node looks at all logs again."""
    uids = [uid for uid in (f"put-back-{i}" for i in range(200)) if running.owner(uid) == "r1"]
    receivers, sender = [running.join(uid) for uid in uids], running.join(running.uid_of("r1", "sends"))
    mark = own_redis.journal_size()
    for n, uid in enumerate(uids):
        sender.send(t="send", id=f"{n}", to=uid, body=n)
        sender.wait("ok")
    for n, receiver in enumerate(receivers):
        assert receiver.bodies(1) == [n]
    own_redis.lose_after(mark)
    until(lambda: running.nodes["r1"].metric("redis_up") == 1, "Redis is seen again")
    assert [receiver.wait("msg", 5.0)["was"]["seq"] for receiver in receivers] == [1] * len(receivers)


def test_a_members_own_place_is_answered_apart_from_the_read_cursor_after_a_restart(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    """In the new incarnation both begin with seqs that the client has had; only one of them is where it is."""
    running.redis.sadd(running.keys.groups_of("member"), "team")
    speaker, member = running.join("team-speaker"), running.join("member")
    had = member.wait("joined")
    speaker.send(t="join", group="team")
    speaker.wait("joined")
    for n in (1, 2, 3):
        speaker.send(t="publish", id=f"{n}", group="team", body=n)
        speaker.wait("ok")
    place = {"gen": had["gen"], "seq": [member.wait("msg")["seq"] for _ in range(3)][1]}
    own_redis.kill()
    own_redis.start()
    until(lambda: running.nodes["r1"].metric("redis_up") == 1, "Redis is seen again")
    again = running.join("member")
    told = again.wait("joined", 10.0)
    assert (told["unread"], told["seq"], told.get("from")) == (3, 3, None)
    assert told["gen"] > had["gen"]
    assert again.bodies(3) == [1, 2, 3]
    again.send(t="join", group="team", **{"from": place})
    answer = again.wait("joined")
    assert (answer["unread"], answer["seq"], answer["from"]) == (1, 3, place)
    assert again.bodies(1) == [3]


def swallowed(running: Nodes, own_redis: redises.RealRedis) -> tuple[Client, Client, str]:
    """A frozen Redis took the message with id 1, its ok did not come: sender, recipient, the recipient's uid."""
    sender, receiver = running.join(running.uid_of("r1", "a")), running.join(b := running.uid_of("r1", "b"))
    insist(sender, id="0", to=b, body="first")
    assert receiver.bodies(1) == ["first"]
    own_redis.freeze()
    try:
        sender.send(t="send", id="1", to=b, body="swallowed")
        assert sender.wait("error", 10.0)["code"] == "unavailable"
    finally:
        own_redis.thaw()
    return sender, receiver, b


def test_a_message_whose_ok_a_frozen_redis_swallowed_is_delivered_with_the_next_ok(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    """Nobody heard of it: said again it is a duplicate, and its recipient is on the same node."""
    sender, receiver, b = swallowed(running, own_redis)
    assert insist(sender, id="1", to=b, body="swallowed")["seq"] == 2
    assert receiver.wait("msg", 1.5)["body"] == "swallowed"


def test_a_message_whose_ok_was_lost_comes_as_soon_as_redis_is_back_though_nobody_says_it_again(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    _, receiver, _ = swallowed(running, own_redis)
    until(lambda: running.nodes["r1"].metric("redis_up") == 1, "Redis is seen again")
    assert receiver.wait("msg", 1.5)["body"] == "swallowed"


def test_a_message_whose_ok_was_lost_with_its_connection_is_delivered_at_once(
    running: Nodes, own_redis: redises.RealRedis
) -> None:
    """The node says it again by itself; its subscription stands, so nothing else makes it look at the log."""
    sender, receiver = running.join(running.uid_of("r1", "a")), running.join(b := running.uid_of("r1", "b"))
    insist(sender, id="0", to=b, body=0)
    assert receiver.bodies(1) == [0]
    node = running.nodes["r1"]
    before = node.metric("messages_in_total")
    with own_redis.swallowing_replies():
        sender.send(t="send", id="1", to=b, body=1)
        until(lambda: node.metric("messages_in_total") > before, "it is on its way")
    assert sender.wait("ok", 10.0)["seq"] == 2
    assert receiver.wait("msg", 1.5)["body"] == 1


def test_what_nobody_brings_back_is_told_when_the_time_is_over(running: Nodes, own_redis: redises.RealRedis) -> None:
    """A back end has sent it and is gone; who reconnects with an older position has missed it."""
    uid = running.uid_of("r1", "bereft")
    receiver = running.join(uid)
    channel = Keys(running.cluster).node_channel("r1")
    back_end = MessageLog(running.redis, Keys(running.cluster))
    before = append(back_end, "kept", ch=f"u:{uid}")[0]
    mark = own_redis.journal_size()
    back_end.append(message("lost", ch=f"u:{uid}", notify=channel))
    assert receiver.bodies(2) == ["kept", "lost"]
    own_redis.lose_after(mark)
    until(lambda: running.nodes["r1"].metric("redis_up") == 1, "Redis is seen again")
    receiver.wait("position", 15.0, recovered=True)  # nothing is known to be missing for it yet
    late = running.connect(uid, inbox=f"{before.gen}:{before.seq}")
    welcome = late.wait("welcome")["inbox"]
    assert (welcome["recovered"], welcome["unread"]) == (True, 0)
    told = late.wait("position", GRACE_S + 5.0)
    assert (told["gen"], told["recovered"], told["oldest"]) == (welcome["gen"], False, before.seq + 1)
