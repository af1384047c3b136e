"""A failover of Sentinel, in which the old master lives on and takes writes for a while."""

from __future__ import annotations

import time

import pytest

from ringway.core.errors import Unavailable
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from tests.harness.logs import ids, message
from tests.harness.redis_fleets import RedisSentinel


@pytest.mark.slow
def test_what_the_old_master_took_is_carried_over() -> None:
    with RedisSentinel() as servers:
        client = connect(servers.url)
        log = MessageLog(client, Keys())
        sent = 0
        failed_over = until = None
        while until is None or time.monotonic() < until:
            while any(isinstance(result, Unavailable) for result in log.append_many([message(sent)])):
                time.sleep(0.05)
            sent += 1
            if failed_over is None and sent == 20:
                failed_over = servers.master_port()
                servers.failover()
            if log.restarts and until is None:
                until = time.monotonic() + 1.0
            assert sent < 50_000, "the failover was never noticed"
        found, position = [], None
        entries = log.read("u:bob", position, limit=10_000)
        found += ids(entries)
        assert found[-100:] == [str(number) for number in range(sent)][-100:]
        assert len(found) == len(set(found))
        assert log.restarts == 1
        client.close()
