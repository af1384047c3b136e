"""The handshake on real nodes: tickets, whose ring is newer, and what a session may say."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from ringway.core.keys import KeyRing

from .nodes import Client, Nodes, until

OTHER_KEYS = KeyRing.parse("other:another-secret-of-the-right-length")


def test_a_ticket_opens_a_session(nodes: Nodes) -> None:
    with nodes.connect("gate-alice") as client:
        welcome = client.read()
    assert welcome["t"] == "welcome"
    assert (welcome["uid"], welcome["node"]) == ("gate-alice", nodes.owner("gate-alice"))
    assert (welcome["gen"], welcome["epoch"]) == (nodes.document.gen, nodes.document.epoch)
    assert welcome["ping_s"] == 25
    assert welcome["dedup_s"] == 3600, "what the log keeps an id for: clients send nothing again after it"
    assert (welcome["inbox"]["seq"], welcome["inbox"]["unread"], welcome["inbox"]["recovered"]) == (0, 0, True)


@pytest.mark.parametrize(
    ("cause", "code"),
    [("expired", 4303), ("forged", 4001), ("foreign", 4302), ("malformed", 4001), ("reused", 4303)],
)
def test_a_ticket_that_does_not_hold_closes_with_its_code(nodes: Nodes, cause: str, code: int) -> None:
    node, good = nodes.nodes["n1"], nodes.ticket("gate-mallory", "n1")
    bad = {
        "expired": nodes.ticket("gate-mallory", "n1", ttl_s=-5),
        "forged": nodes.ticket("gate-mallory", "n1", keys=OTHER_KEYS),
        "foreign": nodes.ticket("gate-mallory", "n2"),
        "malformed": "not-a-ticket",
        "reused": good,
    }[cause]
    nodes.connect("gate-mallory", "n1", ticket=good)
    before = node.metric("tickets_refused_total", cause=cause)
    with nodes.connect("gate-mallory", "n1", ticket=bad) as client:
        assert client.closed() == code
        assert [frame["t"] for frame in client.frames] == []
    assert node.metric("tickets_refused_total", cause=cause) == before + 1


def test_no_ticket_at_all_is_unauthorized(nodes: Nodes) -> None:
    with Client(nodes.nodes["n1"].url) as client:
        assert client.closed() == 4001


@pytest.mark.parametrize("age", [0, 1])
def test_the_node_that_does_not_own_the_user_names_the_owner(nodes: Nodes, age: int) -> None:
    uid = nodes.uid_of("n2", "gate-redirect")
    with nodes.connect(uid, "n1", epoch=nodes.epoch - age) as client:
        assert client.closed() == 4302
        move = client.frames[0]
    assert move["t"] == "move"
    assert move["url"].startswith(nodes.nodes["n2"].url)
    ticket = parse_qs(urlsplit(move["url"]).query)["ticket"][0]
    with nodes.connect(uid, "n2", ticket=ticket) as client:
        assert client.read()["t"] == "welcome"


def test_a_ticket_of_an_older_ring_is_good_for_the_owner(nodes: Nodes) -> None:
    uid = nodes.uid_of("n1", "gate-older")
    with nodes.connect(uid, "n1", epoch=nodes.epoch - 1) as client:
        assert client.read()["t"] == "welcome"


def test_a_ticket_of_a_ring_that_nobody_has_yet_is_taken_provisionally(nodes: Nodes) -> None:
    uid = nodes.uid_of("n2", "gate-newer")
    with nodes.connect(uid, "n1", epoch=nodes.epoch + 1) as client:
        assert client.wait("welcome")["epoch"] == nodes.epoch
        nodes.ring("n1", "n2")
        assert client.wait("move")["url"].startswith(nodes.nodes["n2"].url)


def test_a_resume_ticket_of_a_newer_ring_has_to_ask_for_a_route(nodes: Nodes) -> None:
    with nodes.connect("gate-resume", "n1", epoch=nodes.epoch + 1, reason="resume") as client:
        assert client.closed() == 4303


def test_the_resume_ticket_of_the_welcome_opens_the_next_session(nodes: Nodes) -> None:
    uid = "gate-again"
    resume = nodes.connect(uid).read()["resume"]
    with nodes.connect(uid, ticket=resume) as client:
        assert client.read()["t"] == "welcome"
    with nodes.connect(uid, ticket=resume) as client:
        assert client.closed() == 4303


def test_what_is_said_before_the_welcome_is_heard(nodes: Nodes) -> None:
    with nodes.connect("gate-hasty", epoch=nodes.epoch + 1) as client:
        client.send(t="ping")
        assert {client.read()["t"], client.read()["t"]} == {"welcome", "pong"}


BAD = [
    "no json",
    "[]",
    "{}",
    '{"t":"dance"}',
    '{"t":"send","id":"1","body":1}',
    '{"t":"send","id":7,"to":"x","body":1}',
    '{"t":"send","id":"1","to":"x","body":1,"volatile":"yes"}',
    '{"t":"join"}',
    '{"t":"ack","ch":"u:x","gen":1}',
    '{"t":"send","id":"1","to":"x","body":' + "[" * 300 + "]" * 300 + "}",
    '{"t":"send","id":"1","to":"x","volatile":true,"body":' + "[" * 300 + "]" * 300 + "}",
    '{"t":"publish","id":"1","group":"x","body":' + "[" * 300 + "]" * 300 + "}",
    '{"t":"send","id":"1","body":1,"to":' + "[" * 1000 + "]" * 1000 + "}",
]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_frame_is_answered_and_the_session_goes_on(nodes: Nodes, text: str) -> None:
    with nodes.join("gate-clumsy") as client:
        client.socket.send(text)
        error = client.read()
        assert error["t"] == "error"
        assert error["code"] == ("unknown_frame" if text in ("{}", BAD[3]) else "bad_frame")
        client.send(t="ping")
        assert client.read()["t"] == "pong"


def test_the_answer_to_a_bad_frame_names_the_message_or_the_join(nodes: Nodes) -> None:
    with nodes.join("gate-clumsy") as client:
        client.send(t="send", id="order 4711", to="x", body=1)
        assert client.read()["id"] == "order 4711"
        client.send(t="join", group="room", **{"from": {"gen": "a b", "seq": 1}})
        assert client.read()["group"] == "room"


def test_one_who_goes_on_sending_bad_frames_is_closed_and_others_notice_nothing(nodes: Nodes) -> None:
    with nodes.join("gate-fuzzer", "n1", epoch=99, reason="route") as fuzzer, nodes.join("gate-bystander") as other:
        for _ in range(21):
            fuzzer.socket.send("{")
        assert fuzzer.closed() == 4000
        other.send(t="ping")
        assert other.quiet() == [{"t": "pong"}]


def test_binary_messages_are_closed_with_1003(nodes: Nodes) -> None:
    with nodes.join("gate-binary") as client:
        client.socket.send(b"\x00")
        assert client.closed() == 1003


def test_a_message_over_64_kib_is_closed_with_1009(nodes: Nodes) -> None:
    with nodes.join("gate-large") as client:
        client.socket.send("x" * 65537)
        assert client.closed() == 1009


def test_a_bad_inbox_position_is_a_protocol_error(nodes: Nodes) -> None:
    with nodes.connect("gate-nowhere", inbox="x") as client:
        assert client.closed() == 4000


def test_uids_of_every_kind_reach_their_owner(nodes: Nodes) -> None:
    for uid in ("用户7", "a&b#c+d/e", "%41", "x" * 256, "🙂"):
        with nodes.join(uid) as client, nodes.join("gate-sender") as sender:
            assert client.frames[0]["uid"] == uid
            sender.send(t="send", id=f"m{time.time_ns()}", to=uid, body=uid)
            assert client.bodies(1) == [uid]


def test_sessions_are_counted_and_forgotten(nodes: Nodes) -> None:
    node = nodes.nodes["n1"]
    until(lambda: node.metric("sessions") == 0)
    clients = [nodes.join(nodes.uid_of("n1", f"gate-count{i}")) for i in range(5)]
    assert node.metric("sessions") == 5
    for client in clients:
        client.close()
    until(lambda: node.metric("sessions") == 0, "sessions forgotten")
    assert node.metric("users") == 0


def test_session_ids_are_never_used_twice(nodes: Nodes) -> None:
    sids = [nodes.connect(f"gate-sid-{i % 3}").read()["sid"] for i in range(12)]
    assert len(set(sids)) == len(sids)
