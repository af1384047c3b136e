"""Read cursors on their way to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gevent
import pytest

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.store import cursors
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from ringway.ws_server.batcher import Batcher
from ringway.ws_server.redis_link import RedisLink
from tests.harness import redises

CH = "u:bob"


@dataclass
class Node:
    """What of a node moves read cursors."""

    client: Client
    keys: Keys
    link: RedisLink
    batcher: Batcher

    def ack(self, *positions: Position) -> None:
        for position in positions:
            self.batcher.ack("bob", CH, position)

    def wait_for_cursor(self) -> Position:
        with gevent.Timeout(10.0):
            while not self.link.up or (cursor := cursors.read(self.client, self.keys, "bob", [CH])[0]) is None:
                gevent.sleep(0.01)
        return cursor


@pytest.fixture
def node(own_redis: redises.RealRedis) -> Iterator[Node]:
    client, keys = connect(own_redis.url), Keys()
    link = RedisLink(client.ping)
    batcher = Batcher(MessageLog(client, keys), client, keys, link)
    batcher.start()
    yield Node(client, keys, link, batcher)
    batcher.stop()
    link.stop()
    client.close()


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
