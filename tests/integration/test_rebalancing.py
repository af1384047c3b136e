"""Who moves when nodes come and go: exactly the users whose owner changed, each once, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import Ring
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
XX = hashing(XXH64)
UIDS = [f"user-{i}" for i in range(2000)]
FAST = {"RINGWAY_MOVE_DEADLINE": "1", "RINGWAY_MOVE_LEAST": "1000", "RINGWAY_MOVE_SPREAD": "1"}


@pytest.fixture
def cluster(zookeeper: str, redis_url: str) -> Iterator[Cluster]:
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=0, node_env=FAST) as cluster:
        yield cluster


def weights(cluster: Cluster) -> dict[str, int]:
    """Virtual nodes by id, as the published document says."""
    return {m["id"]: m["vnodes"] for m in cluster.ring()["members"] if m["state"] == "active"}


def owners(of: dict[str, int]) -> dict[str, str]:
    """The brute-force answer: each uid's owner on a ring built from nothing."""
    ring = Ring.build(of, XX)
    return {uid: ring.owner(uid) for uid in UIDS}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    old, new = owners(before), owners(after)
    return {uid for uid in UIDS if old[uid] != new[uid]}


def on_their_owner(crowd: PlainClients, of: dict[str, int]) -> bool:
    right = owners(of)
    return crowd.nodes() == right


def assert_only_these_moved(crowd: PlainClients, moved: set[str]) -> None:
    assert crowd.told_to_move() == moved
    assert crowd.closed() == moved
    assert crowd.codes() == {4300: len(moved)}
    assert crowd.reconnects() == {0: len(UIDS) - len(moved), 1: len(moved)}


@pytest.mark.parametrize("joiner", [256, 512], ids=["equal weight", "weight 2"])
def test_a_joining_node_takes_exactly_its_share_of_2000_connections(cluster: Cluster, joiner: int) -> None:
    for _ in range(3):
        cluster.add_node(wait=False)
    cluster.wait_active({"node-1", "node-2", "node-3"})
    before = weights(cluster)
    with PlainClients(cluster.url, UIDS) as crowd:
        assert on_their_owner(crowd, before)
        cluster.add_node("node-4", vnodes=joiner)
        after = weights(cluster)
        wait_until(lambda: on_their_owner(crowd, after), 60.0, "everybody on their owner")
        moved = changed(before, after)
        assert 0.15 < len(moved) / len(UIDS) < 0.5
        assert_only_these_moved(crowd, moved)


def test_a_drained_node_gives_its_own_sessions_away_and_touches_no_other(cluster: Cluster) -> None:
    for vnodes in (256, 512, 256):
        cluster.add_node(vnodes=vnodes, wait=False)
    cluster.wait_active({"node-1", "node-2", "node-3"})
    before = weights(cluster)
    after = {node: count for node, count in before.items() if node != "node-2"}
    with PlainClients(cluster.url, UIDS) as crowd:
        cluster.nodes["node-2"].terminate()
        wait_until(lambda: on_their_owner(crowd, after), 60.0, "everybody on their owner")
        assert cluster.nodes["node-2"].wait_exit() == 0
        moved = changed(before, after)
        assert moved == {uid for uid, node in owners(before).items() if node == "node-2"}
        assert crowd.closed() == moved
        assert set(crowd.codes()) <= {4300, 4301}
        assert crowd.reconnects() == {0: len(UIDS) - len(moved), 1: len(moved)}


def test_a_killed_nodes_clients_are_back_and_nobody_else_is_closed(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.add_node(wait=False)
    cluster.wait_active({"node-1", "node-2", "node-3"})
    before = weights(cluster)
    of_victim = {uid for uid, node in owners(before).items() if node == "node-2"}
    with PlainClients(cluster.url, UIDS) as crowd:
        cluster.nodes["node-2"].kill()
        after = {node: count for node, count in before.items() if node != "node-2"}
        wait_until(lambda: on_their_owner(crowd, after), 60.0, "everybody on their owner")
        assert crowd.closed() == of_victim
