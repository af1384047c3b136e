"""Connections of one's own: the same replies as a pool's, and the same behaviour when Redis fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ringway.store.appends import TOGETHER
from ringway.store.arrivals import UNREAD, Arrival
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.line import Command, Line
from ringway.store.log import Appended, MessageLog
from tests.harness.logs import append, ids, message
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


def call(line: Line, commands: list[Command]) -> list[Any]:
    replies: list[Any] = []
    assert line.call(commands, replies.append)
    return replies


def test_replies_come_in_order_with_errors_in_their_places(line: Line) -> None:
    replies = call(line, [("SET", "a", 1), ("LPUSH", "a", "x"), ("GET", b"a")])
    assert (replies[0], replies[2]) == (b"OK", b"1")
    assert isinstance(replies[1], ResponseError)


def test_a_closed_connection_is_replaced_without_a_word(server: RealRedis, line: Line) -> None:
    call(line, [("SET", "a", 1)])
    server.drop_clients()
    assert call(line, [("GET", "a")]) == [b"1"]


def test_no_server_and_no_answer_are_errors_and_the_next_call_begins_anew(server: RealRedis, line: Line) -> None:
    call(line, [("PING",)])
    server.freeze()
    with pytest.raises(RedisTimeoutError):
        call(line, [("GET", "a")])
    server.thaw()
    assert call(line, [("SET", "a", 2), ("GET", "a")]) == [b"OK", b"2"]
    server.kill()
    with pytest.raises(RedisConnectionError):
        call(line, [("GET", "a")])
    server.start()
    assert call(line, [("GET", "a")]) == [None]


def test_a_command_is_made_while_those_before_it_are_with_redis(client: Client, line: Line) -> None:
    def made() -> Iterator[Command]:
        yield ("SET", "a", 1)
        wait_until(lambda: client.get("a") == b"1")
        yield ("GET", "a")

    replies: list[Any] = []
    assert line.call(made(), replies.append)
    assert replies == [b"OK", b"1"]


def test_a_reply_is_taken_before_the_next_one_is_there(client: Client, line: Line) -> None:
    def take(reply: Any) -> None:
        replies.append(reply)
        if reply == b"OK":
            client.rpush("list", "x")  # what the second command waits for

    replies: list[Any] = []
    assert line.call([("SET", "a", 1), ("BLPOP", "list", 5)], take)
    assert replies == [b"OK", [b"list", b"x"]]


def test_on_another_connection_only_what_has_no_reply_is_said_again(
    server: RealRedis, client: Client, line: Line
) -> None:
    def take(reply: Any) -> None:
        replies.append(reply)
        if reply == 1:
            server.drop_clients()
            client.rpush("list", "x")

    call(line, [("PING",)])
    replies: list[Any] = []
    assert line.call([("INCR", "n"), ("BLPOP", "list", 5), ("GET", "n")], take)
    assert replies == [1, [b"list", b"x"], b"1"]


@contextmanager
def used_up(line: Line) -> Iterator[None]:
    """All its connections are in use."""
    taken = list(line._free)
    line._free.clear()
    yield
    line._free.extend(taken)


def test_a_caller_more_than_there_are_connections_is_sent_away(line: Line) -> None:
    with used_up(line):
        assert not line.call([("PING",)], print)
    assert call(line, [("PING",)]) == [b"PONG"]


def test_each_caller_has_a_connection_to_itself(client: Client) -> None:
    line = Line.to(client, connections=2)
    assert line is not None
    waiting = threading.Thread(target=call, args=(line, [("BLPOP", "list", 5)]))
    waiting.start()
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)  # type: ignore[index]
    assert call(line, [("RPUSH", "list", "x")]) == [1]
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


class Breaking(Line):
    """Its connections break for good after one reply."""

    def call(self, commands: Iterable[Command], take: Callable[[Any], object]) -> bool:
        rest = iter(commands)
        assert super().call([next(rest)], take)
        raise RedisConnectionError("as told")


def test_what_redis_had_answered_before_its_connection_broke_has_its_result(client: Client) -> None:
    line = Breaking.to(client)
    numbers = range(TOGETHER + 8)
    results = MessageLog(client, Keys(), line=line).append_many([message(number) for number in numbers])
    assert [isinstance(result, Appended) for result in results] == [True] * TOGETHER + [False] * 8
    log = MessageLog(client, Keys())
    assert [one.duplicate for one in append(log, *numbers)] == [True] * TOGETHER + [False] * 8
    assert ids(log.read("u:bob", None)) == [str(number) for number in numbers]
