"""The nodes' cap and TTL of logs, for those who are no node."""

from __future__ import annotations

import uuid

import pytest
import redis

from ringway.core.errors import Unavailable
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.limits import Limits, SharedLimits
from ringway.store.log import MessageLog
from tests.harness.logs import append, message
from tests.harness.redises import RealRedis

NODES = Limits(cap=3000, ttl_s=30 * 86_400)


def test_a_writer_goes_by_the_nodes_cap_and_ttl(client: Client, keys: Keys) -> None:
    node = MessageLog(client, keys, limits=NODES)
    back_end = MessageLog(client, keys, limits=SharedLimits(client, keys))
    SharedLimits(client, keys).put(NODES)
    append(node, *range(2000))
    append(back_end, "one more")
    assert node.read("u:bob", None, 0).pending == 2001
    append(back_end, "the first there", ch="u:dan")
    assert all(client.ttl(keys.log(ch)) > 29 * 86_400 for ch in ("u:bob", "u:dan"))


def test_a_nodes_smaller_cap_counts_as_well(client: Client, keys: Keys) -> None:
    SharedLimits(client, keys).put(Limits(cap=100))
    log = MessageLog(client, keys, limits=SharedLimits(client, keys))
    append(log, *range(500))
    assert log.read("u:bob", None, 0).pending <= 200


def test_where_no_node_has_run_yet_it_is_what_a_node_has_by_default(client: Client, keys: Keys) -> None:
    assert SharedLimits(client, keys).current() == Limits()


def test_the_nodes_word_is_read_again_after_a_while_only(client: Client, keys: Keys) -> None:
    now = [0.0]
    limits = SharedLimits(client, keys, max_age_s=2.0, clock=lambda: now[0])
    limits.put(NODES)
    assert limits.current() == NODES
    limits.put(Limits(cap=10))
    assert limits.current() == NODES
    now[0] = 2.5
    assert limits.current() == Limits(cap=10)


def test_what_is_known_stays_where_redis_has_lost_it(client: Client, keys: Keys) -> None:
    limits = SharedLimits(client, keys, max_age_s=0.0)
    limits.put(NODES)
    assert limits.current() == NODES
    client.delete(keys.limits)
    assert limits.current() == NODES


def test_nothing_is_appended_under_a_guess() -> None:
    client = redis.Redis(port=1, socket_connect_timeout=0.2)
    keys = Keys(f"t{uuid.uuid4().hex[:10]}")
    log = MessageLog(client, keys, limits=SharedLimits(client, keys))
    assert [type(one) for one in log.append_many([message("a"), message("b")])] == [Unavailable] * 2
    with pytest.raises(Unavailable):
        SharedLimits(client, keys).current()


def test_what_is_known_stays_while_redis_is_away() -> None:
    with RealRedis() as server:
        client = connect(server.url, timeout_s=1.0)
        limits = SharedLimits(client, Keys(), max_age_s=0.0)
        limits.put(NODES)
        assert limits.current() == NODES
        server.kill()
        assert limits.current() == NODES
        client.close()
