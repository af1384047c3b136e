"""Connections of one's own: the same replies as a pool's, and the same behaviour when Redis fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ringway.store.arrivals import UNREAD, Arrival
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.line import Line
from ringway.store.log import MessageLog
from tests.harness.logs import append, ids
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until


@pytest.fixture
def server() -> Iterator[RealRedis]:
    with RealRedis() as server:
        yield server


@pytest.fixture
def client(server: RealRedis) -> Iterator[Client]:
    client = connect(server.url, timeout_s=0.5)
    yield client
    client.close()


@pytest.fixture
def line(client: Client) -> Iterator[Line]:
    line = Line.to(client)
    assert line is not None
    yield line
    line.close()


def test_replies_come_in_order_with_errors_in_their_places(line: Line) -> None:
    replies = line.call([("SET", "a", 1), ("LPUSH", "a", "x"), ("GET", b"a")])
    assert replies is not None
    assert (replies[0], replies[2]) == (b"OK", b"1")
    assert isinstance(replies[1], ResponseError)


def test_a_closed_connection_is_replaced_without_a_word(server: RealRedis, line: Line) -> None:
    line.call([("SET", "a", 1)])
    server.drop_clients()
    assert line.call([("GET", "a")]) == [b"1"]


def test_no_server_and_no_answer_are_errors_and_the_next_call_begins_anew(server: RealRedis, line: Line) -> None:
    line.call([("PING",)])
    server.freeze()
    with pytest.raises(RedisTimeoutError):
        line.call([("GET", "a")])
    server.thaw()
    assert line.call([("SET", "a", 2), ("GET", "a")]) == [b"OK", b"2"]
    server.kill()
    with pytest.raises(RedisConnectionError):
        line.call([("GET", "a")])
    server.start()
    assert line.call([("GET", "a")]) == [None]


@contextmanager
def used_up(line: Line) -> Iterator[None]:
    """All its connections are in use."""
    taken = list(line._free)
    line._free.clear()
    yield
    line._free.extend(taken)


def test_a_caller_more_than_there_are_connections_is_sent_away(line: Line) -> None:
    with used_up(line):
        assert line.call([("PING",)]) is None
    assert line.call([("PING",)]) == [b"PONG"]


def test_each_caller_has_a_connection_to_itself(client: Client) -> None:
    line = Line.to(client, connections=2)
    assert line is not None
    waiting = threading.Thread(target=line.call, args=([("BLPOP", "list", 5)],))
    waiting.start()
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)  # type: ignore[index]
    assert line.call([("RPUSH", "list", "x")]) == [1]
    waiting.join()
    line.close()


def test_a_log_appends_over_its_line_and_over_the_pool_while_that_is_busy(client: Client, line: Line) -> None:
    log = MessageLog(client, Keys(), line=line)
    append(log, "a")
    append(log, "b", "c")
    with used_up(line):
        append(log, "d")
    assert ids(log.read("u:bob", None)) == ["a", "b", "c", "d"]


def test_arrivals_go_over_the_line_too(client: Client, line: Line) -> None:
    log = MessageLog(client, Keys(), line=line)
    append(log, "a")
    assert ids(log.arrive([Arrival("bob", UNREAD)])[0][0]) == ["a"]
    assert line._free[0] is not None
