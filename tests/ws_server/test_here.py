"""Who is online: users who come back in the middle of a removal, and those of a node that ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.store.client import connect
from ringway.store.presence import LEASE_S, RENEW_S, RETURN_S, PresenceReader
from tests.harness import redises, zookeepers
from tests.harness.delays import DelayProxy

from .nodes import Nodes, until

NODES = ("h1", "h2", "h3")


@pytest.fixture
def running(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    env = {"RINGWAY_APP": "tests.ws_server.chat:setup"}
    with Nodes(zookeeper_server.address, redis_server.url, *NODES, env=env) as nodes:
        yield nodes


@pytest.fixture
def slow_redis(redis_server: redises.Provider) -> Iterator[DelayProxy]:
    with DelayProxy(redis_server.url.split("/")[2]) as proxy:
        yield proxy


@pytest.fixture
def one(zookeeper_server: zookeepers.Provider, slow_redis: DelayProxy) -> Iterator[Nodes]:
    """A node that reaches Redis through the proxy."""
    env = {"RINGWAY_APP": "tests.ws_server.chat:setup"}
    with Nodes(zookeeper_server.address, f"redis://{slow_redis.address}/0", "h1", env=env) as nodes:
        yield nodes


def told(nodes: Nodes, uid: str, *but: str) -> list[str]:
    """What the handlers of the nodes were told of a user, connections aside."""
    living = [node for name, node in nodes.nodes.items() if name not in but]
    lines = [line for node in living for line in node.get(f"/log?uid={uid}").json()]
    return sorted(line for line in lines if not line.startswith("left"))


def test_users_of_a_killed_node_who_never_return_go_offline_once(running: Nodes) -> None:
    """kill -9. One user comes back on another node in time, and was never offline."""
    gone = [f"{running.uid_of('h1', f'gone{i}')}" for i in range(20)]
    back = running.uid_of("h1", "back")
    for uid in (*gone, back):
        running.join(uid)
    until(lambda: all(told(running, uid) == [f"online {uid}"] for uid in (gone[0], gone[-1], back)), "all are online")
    reader = PresenceReader(running.redis, running.keys)
    until(lambda: reader.count() == 21)
    running.nodes["h1"].child.popen.kill()
    running.ring("h2", "h3", seen_by=("h2", "h3"))
    returned = running.join(back)
    timeout_s = LEASE_S + RETURN_S + 15.0
    until(lambda: all(told(running, uid, "h1") == [f"offline {uid}"] for uid in gone), "all are offline", timeout_s)
    assert reader.where([*gone, back]) == {**dict.fromkeys(gone), back: running.owner(back)}
    assert told(running, back, "h1") == []
    returned.close()
    until(lambda: told(running, back, "h1") == [f"offline {back}"], "offline at last")
    assert all(told(running, uid, "h1") == [f"offline {uid}"] for uid in gone)


def test_users_of_a_stopped_node_who_never_return_go_offline_once(running: Nodes) -> None:
    """Told to stop, with sessions of clients that do not move."""
    uid = running.uid_of("h1", "stayed")
    client = running.join(uid)
    until(lambda: told(running, uid) == [f"online {uid}"])
    running.nodes["h1"].child.popen.terminate()
    running.ring("h2", "h3", seen_by=("h2", "h3"))
    client.closed(60.0)
    running.nodes["h1"].child.popen.wait(30.0)
    until(lambda: told(running, uid, "h1") == [f"offline {uid}"], "offline", RETURN_S + 25.0)


@pytest.fixture
def reader(one: Nodes, redis_url: str) -> Iterator[PresenceReader]:
    client = connect(redis_url)
    yield PresenceReader(client, one.keys)
    client.close()


def test_a_user_who_returns_while_the_removal_is_on_its_way_is_online(
    one: Nodes, slow_redis: DelayProxy, reader: PresenceReader
) -> None:
    first = one.join("ann")
    until(lambda: reader.where(["ann"]) == {"ann": "h1"})
    slow_redis.delay_s = 1.0  # so long the node does not know that Redis has done it
    first.close()
    until(lambda: reader.where(["ann"]) == {"ann": None})
    one.connect("ann")
    slow_redis.delay_s = 0.0
    until(lambda: reader.where(["ann"]) == {"ann": "h1"}, "there again", 5.0)
    until(lambda: len(told(one, "ann")) == 3, "all is told")
    assert told(one, "ann") == ["offline ann", "online ann", "online ann"]


@pytest.mark.parametrize("returns", [True, False])
def test_a_removal_that_failed_costs_nobody_the_presence_nor_the_news(
    one: Nodes, slow_redis: DelayProxy, reader: PresenceReader, returns: bool
) -> None:
    first = one.join("ann")
    until(lambda: told(one, "ann") == ["online ann"])
    slow_redis.bait, slow_redis.swallow = b"\r\nann\r\n", 2  # the call, and its repetition by redis-py
    first.close()
    until(lambda: slow_redis.swallow == 0, "the removal has failed")
    failed = signs_of_life(one)
    if returns:
        one.join("ann")
        until(lambda: signs_of_life(one) > failed + RENEW_S, "renewed since", RENEW_S + 10.0)
        assert reader.where(["ann"]) == {"ann": "h1"}
        assert told(one, "ann") == ["online ann"]
    else:
        until(lambda: told(one, "ann") == ["offline ann", "online ann"], "offline is told once")
        assert reader.where(["ann"]) == {"ann": None}


def signs_of_life(nodes: Nodes) -> float:
    """When the nodes renewed their presence last, by Redis' clock."""
    [(_boot, at)] = nodes.redis.zrange(nodes.keys.presence_index, 0, -1, withscores=True)
    return float(at)
