"""Whether Redis counts as away, and who hears of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from ringway.core.errors import Unavailable, Unsettled
from ringway.ws_server import redis_link
from ringway.ws_server.redis_link import RedisLink


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def link(heard: list[str]) -> Iterator[RedisLink]:
    link = RedisLink(lambda: None)
    link.on_lost(lambda: heard.append("lost"))
    link.on_back(lambda: heard.append("back"))
    link.on_again(lambda: heard.append("again"))
    yield link
    link.stop()


def wait_for(heard: list[str], word: str) -> None:
    with gevent.Timeout(5.0):
        while word not in heard:
            gevent.sleep(0.01)


def test_a_call_that_fails_turns_it_off_until_a_knock_is_answered(link: RedisLink, heard: list[str]) -> None:
    link.lost(Unavailable("redis"))
    assert (link.up, heard) == (False, ["lost"])
    wait_for(heard, "again")
    assert (link.up, heard) == (True, ["lost", "back", "again"])


def test_a_slot_on_its_way_turns_nothing_off_and_what_failed_is_tried_again(link: RedisLink, heard: list[str]) -> None:
    for _ in range(3):
        link.lost(Unsettled("redis"))
    assert (link.up, heard) == (True, [])
    wait_for(heard, "again")
    assert (link.up, heard) == (True, ["again"])


def test_an_outage_is_said_once_however_often_it_knocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_link, "full_jitter", lambda *_, **__: 0.0)
    caplog.set_level(logging.INFO, "ringway.ws_server.redis_link")
    knocks, back = iter(range(100)), Event()

    def ping() -> None:
        if next(knocks) % 50 < 49:
            raise Unavailable("Redis", "as asked")

    link = RedisLink(ping)
    link.on_back(back.set)
    for _ in range(2):
        back.clear()
        link.lost(Unavailable("Redis", "as asked"))
        assert back.wait(5.0)
    words = [record.getMessage().partition(" (")[0].partition(":")[0] for record in caplog.records]
    assert [" ".join(word.split()[:3]) for word in words] == ["Redis is away", "Redis does not", "Redis is back"] * 2
