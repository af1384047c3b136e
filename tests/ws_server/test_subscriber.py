from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event
from redis.exceptions import ConnectionError as RedisConnectionError

from ringway.ws_server import subscriber
from ringway.ws_server.subscriber import Subscriber


def test_an_outage_is_said_once_however_often_it_connects(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscriber, "full_jitter", lambda *_, **__: 0.0)
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
    part = Subscriber(client, link, on_notice=lambda channel, data: None, on_connected=lambda: None)
    part.start()
    try:
        assert enough.wait(5.0)
    finally:
        part.stop()
    assert len([record for record in caplog.records if "subscriptions lost" in record.getMessage()]) == 1
