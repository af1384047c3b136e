"""A new ring moves exactly the sessions whose owner changed; a drain moves all; a leave moves nobody."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from ringway.core.close_codes import parse_reason
from ringway.core.members import State
from ringway.store.keys import inbox
from ringway.store.log import MessageLog
from ringway.store.notices import Control, encode
from ringway.store.retained import Append
from ringway.store.softdown import SoftDownMarks
from tests.harness import redises, zookeepers

from .nodes import Client, Nodes, until

DEADLINE_S = 1.5


@pytest.fixture
def own_nodes(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    """Nodes of this test alone: n1 on the ring, moves with a short deadline."""
    env = {"RINGWAY_MOVE_DEADLINE": f"{DEADLINE_S:g}"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", env=env) as running:
        yield running


def ticket_of(move: dict[str, object]) -> str:
    return parse_qs(urlsplit(str(move["url"])).query)["ticket"][0]


def follow(nodes: Nodes, uid: str, old: Client) -> Client:
    """What an SDK does on `move`: open the new place, then close the old."""
    move = old.wait("move")
    node_id = next(node.id for node in nodes.nodes.values() if str(move["url"]).startswith(node.url))
    new = nodes.join(uid, node_id, ticket=ticket_of(move))
    old.close()
    return new


def moves_of(clients: dict[str, Client]) -> set[str]:
    return {uid for uid, client in clients.items() if any(f["t"] == "move" for f in client.quiet(0.02))}


def told_to_move(nodes: Nodes, name: str) -> Client:
    """A client on n1 whose owner, n2, has just joined."""
    nodes.start("n2")
    nodes.ring("n1", "n2")
    uid = nodes.uid_of("n2", name)
    nodes.ring("n1")
    client = nodes.join(uid, "n1")
    nodes.ring("n1", "n2")
    client.wait("move")
    return client


def test_moves_are_told_to_those_who_watch(own_nodes: Nodes) -> None:
    nodes = own_nodes
    with nodes.redis.pubsub(ignore_subscribe_messages=True) as watch:
        watch.subscribe(nodes.keys.events_channel)
        watch.get_message(timeout=5.0)
        clients = {uid: nodes.join(uid) for uid in (f"told-{i}" for i in range(20))}
        nodes.start("n2")
        nodes.ring("n1", "n2")
        moved = [follow(nodes, uid, client) for uid, client in clients.items() if nodes.owner(uid) == "n2"]
        events = (orjson.loads(m["data"]) for m in iter(lambda: watch.get_message(timeout=10.0), None))
        last = next(event for event in events if event["left"] == 0)
    assert (last["t"], last["node"], last["told"]) == ("moves", "n1", len(moved))


def test_a_join_moves_exactly_the_users_whose_owner_changed(own_nodes: Nodes) -> None:
    nodes = own_nodes
    clients = {uid: nodes.join(uid) for uid in (f"exact-{i}" for i in range(120))}
    nodes.start("n2")
    nodes.ring("n1", "n2")
    changed = {uid for uid in clients if nodes.owner(uid) == "n2"}
    assert 20 < len(changed) < 100
    until(lambda: nodes.nodes["n1"].metric("moves_total", event="told") == len(changed))
    assert moves_of(clients) == changed
    for uid in changed:
        assert parse_reason(clients[uid].reason if clients[uid].closed() == 4300 else "").epoch == nodes.epoch
    stayed = [client for uid, client in clients.items() if uid not in changed]
    for client in stayed:
        client.send(t="ping")
        assert client.read()["t"] == "pong"
    assert nodes.nodes["n1"].metric("sessions") == len(stayed)


def test_a_user_on_the_owner_of_three_rings_ago_is_found(own_nodes: Nodes) -> None:
    nodes = own_nodes
    client = nodes.join("left-behind")
    nodes.start("n2")
    for vnodes in (64, 32, 16):  # n1 is off the ring and keeps its sessions; n2 owns everybody in the last two rings
        nodes.ring("n2", vnodes=vnodes)
    sender = nodes.join("left-behind-sender")
    sender.send(t="send", id="1", to="left-behind", body="here?")
    assert client.bodies(1, timeout_s=3.0) == ["here?"]


@pytest.mark.parametrize("draining", [False, True])
def test_a_user_who_has_not_gone_yet_is_found_by_an_owner_that_never_knew_the_ring_before(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider, draining: bool
) -> None:
    """The owner was started anew, so that its first ring is the one in which the user is its own already."""
    slowly = {"RINGWAY_MOVE_DEADLINE": "30"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", env=slowly) as nodes:
        client = nodes.join("not-gone-yet")
        nodes.ring("n2")
        if draining:
            nodes.nodes["n1"].child.send(signal.SIGTERM)
            client.wait("move")
        nodes.start("n2")
        nodes.ring("n2")
        sender = nodes.join("its-sender", "n2")
        sender.send(t="send", id="1", to="not-gone-yet", body="perhaps before it is noted")
        until(lambda: nodes.redis.get(nodes.keys.away("not-gone-yet")) == b"n1")
        sender.send(t="send", id="2", to="not-gone-yet", body="after it")
        assert client.bodies(2, timeout_s=5.0) == ["perhaps before it is noted", "after it"]
        nodes.join("not-gone-yet", "n2")
        sender.send(t="send", id="3", to="not-gone-yet", body="with another device at home")
        assert client.bodies(1, timeout_s=5.0) == ["with another device at home"]


def test_a_moved_session_goes_on_from_its_position(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("n2")
    client = nodes.join("seamless")
    gen = client.frames[0]["inbox"]["gen"]
    sender = nodes.join("seamless-sender")
    sender.send(t="send", id="1", to="seamless", body=1)
    assert client.bodies(1) == [1]
    nodes.ring("n2")
    sender.send(t="send", id="2", to="seamless", body=2)
    assert client.bodies(1) == [2]  # forwarded: the session is still on its previous owner
    moved = nodes.connect("seamless", "n2", inbox=f"{gen}:1")
    sender.send(t="send", id="3", to="seamless", body=3)
    assert moved.bodies(2) == [2, 3]


def test_a_leave_closes_nobody(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("n2")
    nodes.ring("n1", "n2")
    clients = {uid: nodes.join(uid) for uid in (f"leave-{i}" for i in range(40))}
    nodes.ring("n1")
    assert moves_of({uid: c for uid, c in clients.items() if c.frames[0]["node"] == "n1"}) == set()
    # n2 lives and was only taken off the ring: its sessions are healthy and stay too.
    assert moves_of({uid: c for uid, c in clients.items() if c.frames[0]["node"] == "n2"}) == set()
    assert sum(node.metric("sessions") for node in nodes.nodes.values()) == 40


def test_a_ring_that_changes_back_leaves_sessions_where_they_are(own_nodes: Nodes) -> None:
    nodes = own_nodes
    client = told_to_move(nodes, "back")
    nodes.ring("n1")
    until(lambda: nodes.nodes["n1"].metric("moves_total", event="stayed") == 1, "its deadline")
    client.send(t="ping")
    assert client.read()["t"] == "pong"


def test_a_node_that_is_back_on_the_ring_moves_whom_it_kept_meanwhile(own_nodes: Nodes) -> None:
    """It was frozen when it was to move them, and off the ring when their time was over."""
    nodes = own_nodes
    client = told_to_move(nodes, "kept")
    nodes.ring("n2")
    until(lambda: nodes.nodes["n1"].metric("moves_total", event="stayed") == 1, "its deadline")
    nodes.ring("n1", "n2")
    assert client.wait("move")["node"] == "n2"


def test_a_session_that_says_it_is_about_to_go_has_three_deadlines(own_nodes: Nodes) -> None:
    """One that takes long to make its next connection is not cut off; one that never makes it is, in the end."""
    nodes = own_nodes
    nodes.start("n2")
    nodes.ring("n1", "n2")
    uids = [nodes.uid_of("n2", f"going-{number}") for number in range(3)]
    nodes.ring("n1")
    silent, once, always = clients = [nodes.join(uid, "n1") for uid in uids]
    nodes.ring("n1", "n2")
    for client in clients:
        client.wait("move")
    told = time.monotonic()
    ends = []
    for client in clients:
        for slow in (once, always) if client is silent else (always,):
            slow.send(t="moving")
        assert client.closed(10.0) == 4300
        ends.append((time.monotonic() - told) / DEADLINE_S)
    assert [round(end) for end in ends] == [1, 2, 3]


def test_messages_find_the_user_on_the_previous_owner(own_nodes: Nodes) -> None:
    """During a change the new owner has no session yet: it passes on to the one before."""
    nodes = own_nodes
    nodes.start("n2", RINGWAY_POLICY="none")
    nodes.ring("n1", "n2")
    uid = next(u for u in (f"forwarded-{i}" for i in range(99)) if nodes.owner(u) == "n1")
    nodes.ring("n2")
    client = nodes.join(uid, "n2")
    nodes.ring("n1", "n2")
    sender = nodes.join(nodes.uid_of("n1", "forwarder"))
    sender.send(t="send", id="f1", to=uid, body="durable")
    sender.send(t="send", id="f2", to=uid, body="volatile", volatile=True)
    assert sorted(client.bodies(2)) == ["durable", "volatile"]


def test_policy_all_moves_everybody_and_none_nobody_until_told(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("all", RINGWAY_POLICY="all")
    nodes.start("none", RINGWAY_POLICY="none")
    nodes.ring("all")
    everybody = {uid: nodes.join(uid) for uid in (f"policy-{i}" for i in range(30))}
    nodes.ring("all", "n1")
    until(lambda: nodes.nodes["all"].metric("moves_total", event="told") == 30)
    assert moves_of(everybody) == set(everybody)
    nodes.ring("none")
    nobody = {uid: nodes.join(uid) for uid in (f"policy-{i}" for i in range(30))}
    nodes.ring("none", "n1")
    assert moves_of(nobody) == set()
    nodes.redis.publish(nodes.keys.node_channel("none"), encode(Control("rebalance", {})))
    changed = {uid for uid in nobody if nodes.owner(uid) == "n1"}
    until(lambda: nodes.nodes["none"].metric("moves_total", event="told") == len(changed))
    assert moves_of(nobody) == changed


def test_a_drained_node_moves_its_sessions_and_exits_0(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("n2")
    nodes.ring("n2", "n1")
    uids = [nodes.uid_of("n1", f"drain{i}") for i in range(20)]
    clients = {uid: nodes.join(uid) for uid in uids}
    old = nodes.nodes["n1"].child
    old.send(signal.SIGTERM)
    until(lambda: nodes.record("n1").state is State.DRAINING)
    nodes.ring("n2", seen_by=("n2",))
    moved = [follow(nodes, uid, client) for uid, client in clients.items()]
    assert old.wait(10.0)
    assert old.popen.returncode == 0
    assert [client.frames[0]["node"] for client in moved] == ["n2"] * 20


def test_a_drain_without_a_new_ring_hands_sessions_to_the_next_nodes(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("n2")
    nodes.ring("n2", "n1")
    uid = nodes.uid_of("n1", "stuck")
    client = nodes.join(uid)
    nodes.nodes["n1"].child.send(signal.SIGTERM)
    move = client.wait("move", 10.0)
    assert str(move["url"]).startswith(nodes.nodes["n2"].url)
    nodes.join(uid, "n2", ticket=ticket_of(move))
    client.close()
    assert nodes.nodes["n1"].child.wait(10.0)
    assert nodes.nodes["n1"].child.popen.returncode == 0


def test_a_second_signal_stops_at_once(own_nodes: Nodes) -> None:
    client = own_nodes.join("impatient")
    child = own_nodes.nodes["n1"].child
    child.send(signal.SIGTERM)
    until(lambda: own_nodes.record("n1").state is State.DRAINING)
    child.send(signal.SIGTERM)
    assert client.closed() == 4301
    assert child.wait(8.0)
    assert child.popen.returncode == 0


def test_one_placed_while_the_owner_was_down_goes_home_when_it_is_back(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.ring("n1", "n2", seen_by=("n1",))
    uid = nodes.uid_of("n2", "softdown")
    client = nodes.join(uid, "n1", reason="softdown")
    assert moves_of({uid: client}) == set()
    nodes.start("n2")
    marks = SoftDownMarks(nodes.redis, nodes.keys)
    marks.mark("n2")
    nodes.ring("n1", "n2")
    assert not any(f["t"] == "move" for f in client.quiet(2.5))
    marks.unmark("n2")
    sender = nodes.join(nodes.uid_of("n2", "softdown-sender"))
    sender.send(t="send", id="s1", to=uid, body="found by its away record")
    assert client.bodies(1) == ["found by its away record"]
    follow(nodes, uid, client)


def test_one_who_is_sent_home_first_gets_what_came_while_the_owner_could_not_pass_it_on(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.start("n2")
    nodes.ring("n1", "n2")
    marks = SoftDownMarks(nodes.redis, nodes.keys)
    marks.mark("n2")
    uid = nodes.uid_of("n2", "last-look")
    client = nodes.join(uid, "n1", reason="softdown")
    assert not any(f["t"] == "move" for f in client.quiet(2.5))
    MessageLog(nodes.redis, nodes.keys).append(Append(inbox(uid), "back-end", "m1", b'"nobody was told"'))
    marks.unmark("n2")
    got = client.quiet(5.0)  # until it is closed for not following
    assert [frame["body"] for frame in got if frame["t"] == "msg"] == ["nobody was told"]
    assert any(frame["t"] == "move" for frame in got)


def test_an_older_document_changes_nothing(own_nodes: Nodes) -> None:
    nodes = own_nodes
    nodes.ring("n1")
    nodes.ring("n1")
    newest, nodes.epoch = nodes.epoch, nodes.epoch - 2
    client = nodes.join("older")
    nodes.ring("n2", wait=False)
    nodes.epoch = newest
    assert moves_of({"older": client}) == set()
    assert nodes.nodes["n1"].ready()["epoch"] == newest
