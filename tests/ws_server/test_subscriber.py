"""Subscriptions, over a connection that confirms them one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue
from redis.exceptions import ConnectionError as RedisConnectionError

from ringway.ws_server import subscriber as subscriber_module
from ringway.ws_server.burst import Burst
from ringway.ws_server.redis_link import RedisLink
from ringway.ws_server.subscriber import Subscriber


@dataclass
class Heard:
    """What a subscriber reports."""

    connected: int = 0
    confirmed: list[str] = field(default_factory=list)
    notices: list[bytes] = field(default_factory=list)

    def on_notice(self, _channel: bytes, data: bytes) -> None:
        self.notices.append(data)

    def on_connected(self) -> None:
        self.connected += 1


class Bursts(Burst):
    """Counts them."""

    begun = 0

    def begin(self) -> None:
        self.begun += not self.on
        super().begin()


@pytest.fixture
def burst() -> Bursts:
    return Bursts()


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Connection:
    """Takes everything, and confirms what it is told to."""

    def __init__(self) -> None:
        self._answers: Any = Queue()

    def __call__(self, **_settings: Any) -> Connection:
        return self

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *_command: str, **_options: Any) -> None: ...

    def read_response(self, **_options: Any) -> Any:
        return self._answers.get()

    def notice(self, text: bytes) -> None:
        self._answers.put([b"message", b"a", text])

    def confirm(self, channel: str) -> None:
        self._answers.put([b"subscribe", channel.encode(), 1])


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def subscriber(connection: Connection, heard: Heard, burst: Bursts) -> Iterator[Subscriber]:
    """Started; it wants a and b."""
    redis: Any = SimpleNamespace(
        connection_pool=SimpleNamespace(connection_class=connection, connection_kwargs={})
    )
    link = RedisLink(lambda: None)
    subscriber = Subscriber(
        redis, link, burst, on_notice=heard.on_notice, on_connected=heard.on_connected
    )
    for channel in ("a", "b"):
        subscriber.subscribe(channel, partial(heard.confirmed.append, channel))
    subscriber.start()
    yield subscriber
    subscriber.stop()
    link.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(10.0):
        while not condition():
            gevent.sleep(0.01)


def test_it_is_connected_once_all_that_is_wanted_is_confirmed(
    subscriber: Subscriber, connection: Connection, heard: Heard
) -> None:
    connection.confirm("a")
    wait_for(lambda: heard.confirmed == ["a"])
    assert not subscriber.connected
    connection.confirm("b")
    wait_for(lambda: heard.connected == 1)
    assert (subscriber.connected, heard.confirmed) == (True, ["a", "b"])


def test_it_is_connected_when_the_last_one_waited_for_is_not_wanted_any_more(
    subscriber: Subscriber, connection: Connection, heard: Heard
) -> None:
    """A group's last session leaves just before its subscription is confirmed."""
    connection.confirm("a")
    wait_for(lambda: heard.confirmed == ["a"])
    subscriber.unsubscribe("b")
    wait_for(lambda: heard.connected == 1)
    connection.confirm("b")  # it was on its way
    gevent.sleep(0)
    assert (subscriber.connected, heard.confirmed, heard.connected) == (True, ["a"], 1)


def test_notices_that_come_together_are_a_burst(
    subscriber: Subscriber, connection: Connection, heard: Heard, burst: Bursts
) -> None:
    for text in (b"1", b"2", b"3"):
        connection.notice(text)
    assert not burst.on
    wait_for(lambda: bool(heard.notices))
    assert heard.notices == [b"1", b"2", b"3"]
    assert burst.begun == 1


def test_an_outage_is_said_once_however_often_it_connects(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscriber_module, "full_jitter", lambda *_, **__: 0.0)
    caplog.set_level(logging.INFO, "ringway.ws_server.subscriber")
    tried, enough = [], Event()

    def connection(**settings: Any) -> None:
        tried.append(settings)
        if len(tried) == 50:
            enough.set()
        raise RedisConnectionError("as asked")

    pool = SimpleNamespace(connection_class=connection, connection_kwargs={})
    client: Any = SimpleNamespace(connection_pool=pool)
    link: Any = SimpleNamespace(lost=lambda error: gevent.sleep(0))
    part = Subscriber(client, link, Burst(), on_notice=lambda channel, data: None, on_connected=lambda: None)
    part.start()
    try:
        assert enough.wait(5.0)
    finally:
        part.stop()
    assert len([record for record in caplog.records if "subscriptions lost" in record.getMessage()]) == 1
