"""One URL for every kind of Redis, and errors that say what is wrong."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from ringway.core.errors import ConfigError, Unavailable
from ringway.store.client import connect, masked, redis_errors
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from ringway.store.presence import Presence
from ringway.store.ring_mirror import RingMirror
from ringway.store.softdown import SoftDownMarks
from tests.harness.logs import append, ids, message
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.zookeeper_java import Certificates

BAD = [
    "", "localhost:6379", "http://localhost", "redis://", "redis://host:0", "redis://host:65536", "redis://host:x",
    "redis://a,b", "redis://host/abc", "redis://ho st", "redis+cluster://a:1/3", "redis+cluster://a:1,,b:2",
    "redis+sentinel://a:1", "redis+sentinel://a:1/0", "redis+other://a", "redis://host:1:2", "redis://[::1", "REDIS://h",
    "redis://host?socket_timeout=abc",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_cannot_work_is_refused_with_its_value_and_the_rule(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        connect(url)
    assert (refused.value.name, refused.value.value) == ("RINGWAY_REDIS", url)
    assert "redis+sentinel://" in refused.value.rule


def test_a_refusal_does_not_show_the_password() -> None:
    with pytest.raises(ConfigError) as refused:
        connect("redis://user:secret@host:99999")
    assert "secret" not in str(refused.value)
    assert masked("rediss://user:secret@host:1/0") == "rediss://***@host:1/0"


@pytest.mark.parametrize(("url", "expected"), [
    ("redis://h", ("h", 6379, 0, None, None)),
    ("redis://h:7000/3", ("h", 7000, 3, None, None)),
    ("redis://:pw@h:7000", ("h", 7000, 0, None, "pw")),
    ("redis://user:p%40w@h", ("h", 6379, 0, "user", "p@w")),
    ("redis://[::1]:7000", ("::1", 7000, 0, None, None)),
])  # fmt: skip
def test_what_a_url_says(url: str, expected: tuple[object, ...]) -> None:
    client = connect(url)
    assert isinstance(client, redis.Redis)
    kwargs = client.connection_pool.connection_kwargs
    found = (kwargs["host"], kwargs["port"], kwargs.get("db", 0), kwargs.get("username"), kwargs.get("password"))
    assert found == expected
    assert kwargs["socket_timeout"] == 2.0


def test_sentinel_takes_its_own_password_and_the_database() -> None:
    client = connect("redis+sentinel://user:pw@a:1,b:2/main?db=4&sentinel_password=other")
    assert isinstance(client, redis.Redis)
    pool: Any = client.connection_pool
    assert (pool.service_name, pool.connection_kwargs["db"], pool.connection_kwargs["password"]) == ("main", 4, "pw")
    sentinels = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"], one["password"]) for one in sentinels] == [("a", 1, "other"), ("b", 2, "other")]
    assert sentinels[0]["socket_timeout"] == 2.0


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "redis+sentinel://127.0.0.1:{port}/main"])
def test_nobody_there_is_unavailable(url: str) -> None:
    client = connect(url.format(port=pick_port()))
    began = time.monotonic()
    with pytest.raises(Unavailable) as away, redis_errors():
        client.ping()
    assert time.monotonic() - began < 1.0
    assert (away.value.service, away.value.retry_after) == ("redis", 1.0)


def test_no_node_of_a_cluster_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        connect(f"redis+cluster://127.0.0.1:{pick_port()}")


def test_tls_checks_the_certificate(tmp_path: Path) -> None:
    with RealRedis(tls=Certificates.make(tmp_path)) as server:
        client = connect(server.url)
        log = MessageLog(client, Keys())
        append(log, "a")
        assert ids(log.read("u:bob", None)) == ["a"]
        client.close()
        stranger = connect(server.url.partition("?")[0])
        with pytest.raises(Unavailable, match="certificate"), redis_errors():
            stranger.ping()
        stranger.close()


def test_the_rights_that_the_operations_guide_names_are_enough(cluster_name: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    rights = re.search(r"With ACLs: `([^`]+)`", guide)
    assert rights is not None
    with RealRedis() as server:
        admin: Any = connect(server.url)
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rights[1].split())
        client = connect(server.url.replace("://", "://app:pw@"))
        keys = Keys(cluster_name)
        log = MessageLog(client, keys)
        log.append(message("a", notify=keys.node_channel("n1")))
        assert log.unread("bob", ["u:bob"]) == [1]
        SoftDownMarks(client, keys).mark("n1")
        Presence(client, keys, "n1", "boot").add(["alice"])
        RingMirror(client, keys).store(b"x", 1, 1)
        admin.close()
        client.close()


def test_a_silent_server_costs_one_time_out() -> None:
    with RealRedis() as server:
        client = connect(server.url, timeout_s=0.5)
        client.ping()
        server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable), redis_errors():
                client.ping()
            assert 0.4 < time.monotonic() - began < 1.5
        finally:
            server.thaw()
        client.close()
