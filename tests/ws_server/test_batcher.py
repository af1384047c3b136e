"""Appends and read cursors on their way to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import gevent
import pytest

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.store import cursors
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.log import Appended, MessageLog, Take
from ringway.store.retained import Append
from ringway.ws_server.batcher import Batcher, Done
from ringway.ws_server.burst import Burst
from ringway.ws_server.redis_link import RedisLink
from tests.harness import redises

CH = "u:bob"


@dataclass
class Node:
    """What of a node writes to Redis."""

    client: Client
    keys: Keys
    link: RedisLink
    burst: Burst
    batcher: Batcher

    def ack(self, *positions: Position) -> None:
        for position in positions:
            self.batcher.ack("bob", CH, position)

    def wait_for_cursor(self) -> Position:
        with gevent.Timeout(10.0):
            while not self.link.up or (cursor := cursors.read(self.client, self.keys, "bob", [CH])[0]) is None:
                gevent.sleep(0.01)
        return cursor

    def append(self, id: str, done: Done) -> None:
        self.batcher.append(Append(CH, "alice", id, b"1"), done)

    def wait_for_log(self, seq: int) -> None:
        with gevent.Timeout(10.0):
            while MessageLog(self.client, self.keys).read(CH, None).seq < seq:
                gevent.sleep(0.01)


@pytest.fixture
def node(own_redis: redises.RealRedis) -> Iterator[Node]:
    client, keys = connect(own_redis.url), Keys()
    link, burst = RedisLink(client.ping), Burst()
    batcher = Batcher(MessageLog(client, keys), client, keys, link, burst)
    batcher.start()
    yield Node(client, keys, link, burst, batcher)
    batcher.stop()
    link.stop()
    client.close()



def test_the_next_pipeline_is_out_while_answers_are_given_and_they_keep_their_order(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[str] = []
    gate = gevent.event.Event()
    append_each = node.batcher._log.append_each

    def slow(_: object) -> None:
        gate.wait(10.0)
        answered.append("1")

    def busy(appends: list[Append], take: Take) -> None:  # another message comes while Redis has the first
        if appends[0].id == "1":
            node.append("2", lambda _: answered.append("2"))
        append_each(appends, take)

    monkeypatch.setattr(node.batcher._log, "append_each", busy)
    node.append("1", slow)
    node.wait_for_log(2)
    node.append("3", lambda _: answered.append("3"))
    node.wait_for_log(3)
    assert answered == []
    gate.set()
    with gevent.Timeout(10.0):
        while len(answered) < 3:
            gevent.sleep(0.01)
    assert answered == ["1", "2", "3"]


def test_what_is_on_its_way_is_answered_before_it_stops(node: Node) -> None:
    answered: list[str] = []

    def first(_: object) -> None:
        answered.append("1")
        node.append("2", lambda _: answered.append("2"))

    node.append("1", first)
    gevent.sleep(0)
    node.batcher.stop()
    assert answered == ["1", "2"]
    assert MessageLog(node.client, node.keys).read(CH, None).seq == 2


def test_it_stops_though_redis_does_not_answer(node: Node, own_redis: redises.RealRedis) -> None:
    own_redis.freeze()
    node.append("1", lambda _: None)
    gevent.sleep(0)
    with gevent.Timeout(5.0):
        node.batcher.stop()
    own_redis.thaw()


def test_answers_that_come_together_are_a_burst_and_one_alone_is_none(node: Node) -> None:
    bursts: list[bool] = []
    for count in (1, 3):
        for number in range(count):
            node.append(f"{number} of {count}", lambda _: bursts.append(node.burst.on))
        with gevent.Timeout(10.0):
            while len(bursts) < count:
                gevent.sleep(0.01)
        assert bursts == [count > 1] * count
        bursts.clear()


def test_who_is_in_the_log_has_an_answer_where_the_rest_of_the_pipeline_fails(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: dict[str, object] = {}
    append_each = node.batcher._log.append_each

    def half(appends: list[Append], take: Take) -> None:
        append_each(appends[:2], take)
        take([(2, Unavailable("redis", "as told"))])

    monkeypatch.setattr(node.batcher._log, "append_each", half)
    for number in range(3):
        node.append(f"{number}", partial(answered.__setitem__, f"{number}"))
    with gevent.Timeout(10.0):
        while len(answered) < 3:
            gevent.sleep(0.01)
    assert [isinstance(answered[id], Appended) for id in "012"] == [True, True, False]


def test_an_answer_that_fails_takes_no_other_along(node: Node) -> None:
    answered: list[str] = []

    def broken(_: object) -> None:
        raise RuntimeError("a handler of the application")

    node.append("1", broken)
    node.append("2", lambda _: answered.append("2"))
    with gevent.Timeout(10.0):
        while not answered:
            gevent.sleep(0.01)


@pytest.mark.parametrize("furthest", [Position("g", 10), Position("h", 1)])
def test_of_two_devices_the_one_that_has_read_further_moves_the_cursor(node: Node, furthest: Position) -> None:
    """A later gen is further, whatever its seq."""
    node.ack(Position("g", 4), furthest, Position("g", 5))
    assert node.wait_for_cursor() == furthest


def test_what_is_read_in_the_same_moment_goes_out_together_and_a_node_that_ends_takes_nothing_along(
    node: Node, own_redis: redises.RealRedis
) -> None:
    def commands() -> int:
        return int(node.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    node.ack(Position("g", 1))
    node.wait_for_cursor()
    before = commands()
    for seq in range(2, 52):
        node.ack(Position("g", seq))
        gevent.sleep(0)
    node.batcher.stop()
    assert cursors.read(node.client, node.keys, "bob", [CH]) == [Position("g", 51)]
    assert 1 <= commands() - before <= 5


def test_what_a_session_has_read_is_written_at_once_when_it_ends(
    node: Node, own_redis: redises.RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.batcher._ack_turns, "_gather_s", 60.0)
    node.ack(Position("g", 1))
    gevent.sleep(0.2)
    assert cursors.read(node.client, node.keys, "bob", [CH]) == [None]
    node.batcher.session_over()
    assert node.wait_for_cursor() == Position("g", 1)


def test_what_was_read_while_redis_is_away_does_not_turn_the_cursor_back(
    node: Node, own_redis: redises.RealRedis
) -> None:
    own_redis.stop()
    node.ack(Position("g", 10))
    with gevent.Timeout(10.0):
        while node.link.up:
            gevent.sleep(0.01)
    node.ack(Position("g", 5))
    own_redis.start()
    assert node.wait_for_cursor() == Position("g", 10)


def test_a_cursor_that_redis_lost_is_moved_again_though_nobody_acks_again(
    node: Node, own_redis: redises.RealRedis
) -> None:
    mark = own_redis.journal_size()
    node.ack(Position("g", 10))
    node.ack(Position("g", 4))
    assert node.wait_for_cursor() == Position("g", 10)
    own_redis.lose_after(mark)
    assert cursors.read(node.client, node.keys, "bob", [CH]) == [None]
    node.link.lost(Unavailable("redis", "the subscriber's connection broke"))
    assert node.wait_for_cursor() == Position("g", 10)
