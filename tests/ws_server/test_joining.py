"""What a session says right after a join, while the join still waits for Redis: it comes after it, everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import redises, zookeepers
from tests.harness.delays import DelayProxy

from .nodes import Client, Nodes

LAG_S = 0.4


@pytest.fixture
def proxy(redis_server: redises.Provider) -> Iterator[DelayProxy]:
    """Subscriptions are confirmed late, so a join takes its time; appends do not."""
    with DelayProxy(redis_server.url.split("/")[2], answers=0.0) as proxy:
        yield proxy


@pytest.fixture
def client(zookeeper_server: zookeepers.Provider, proxy: DelayProxy) -> Iterator[Client]:
    with Nodes(zookeeper_server.address, f"redis://{proxy.address}/0", "j1") as running:
        client = running.join("joiner")
        proxy.delay_s = LAG_S
        yield client


def test_a_session_hears_what_it_publishes_after_its_join(client: Client) -> None:
    client.send(t="join", group="own-voice")
    for n in range(1, 201):  # more than may wait: reading pauses, and goes on
        client.send(t="publish", id=f"v{n}", group="own-voice", body=n)
    assert client.wait("joined")["seq"] == 0
    assert client.bodies(200) == list(range(1, 201))
    oks = [frame for frame in [*client.frames, *client.quiet()] if frame["t"] == "ok"]
    assert [frame["seq"] for frame in oks] == list(range(1, 201))


def test_what_was_published_before_leaving_is_published(client: Client) -> None:
    client.send(t="join", group="brief")
    client.send(t="publish", id="b1", group="brief", body="bye")
    client.send(t="leave", group="brief")
    assert client.wait("ok")["seq"] == 1
    client.send(t="publish", id="b2", group="brief", body="too late")
    assert client.wait("error")["code"] == "forbidden"


def test_without_redis_it_is_refused_for_the_time_being(client: Client, proxy: DelayProxy) -> None:
    proxy.bait, proxy.swallow = b"SUBSCRIBE", 1  # cuts the connection that the join waits for
    client.send(t="join", group="cut off")
    client.send(t="publish", id="c1", group="cut off", body=1)
    assert client.wait("error", 15.0, id="c1")["code"] == "unavailable"
    client.wait("joined", 15.0)
    client.send(t="publish", id="c1", group="cut off", body=1)
    assert client.wait("ok", 15.0, id="c1")["seq"] == 1
