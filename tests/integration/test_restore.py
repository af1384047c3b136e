"""ZooKeeper loses its data, gets old data back, is away at the start, or has a forged ring in it: nobody moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from ringway.core.errors import DocumentError
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import RingDocument, Version
from tests.harness import web, zookeeper_java
from tests.harness.agreement import Prober, Ring, wait_agreed
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster, metric
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import RealZooKeeper

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(180),
    pytest.mark.skipif(not zookeeper_java.available(), reason="data are copied and deleted on disk"),
]  # fmt: skip
KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
UIDS = [f"user-{i}" for i in range(60)]
TIMEOUT_S = 3.0  # of ZooKeeper's sessions


@pytest.fixture
def server() -> Iterator[RealZooKeeper]:
    with RealZooKeeper() as running:
        yield running


@pytest.fixture
def cluster(server: RealZooKeeper, own_redis: RealRedis) -> Iterator[Cluster]:
    """Its nodes and lookups have ports of their own choice, so that they can be started again where they were."""
    env = {"RINGWAY_ZOOKEEPER_TIMEOUT": str(TIMEOUT_S), "RINGWAY_MOVE_DEADLINE": "2"}
    with Cluster(zookeeper=server.address, redis=own_redis.url, nodes=0, lookups=0, env=env) as running:
        for _ in range(2):
            running.add_lookup(env={"RINGWAY_PORT": str(pick_port())})
        for _ in range(3):
            running.add_node(wait=False, env={"RINGWAY_PORT": str(pick_port())})
        running.wait_active(set(running.nodes))
        yield running


def urls(cluster: Cluster) -> list[str]:
    return [lookup.url for lookup in cluster.lookups if lookup.alive]


def agree_later(cluster: Cluster, before: Ring, what: str) -> Ring:
    """Until all agree on a ring of a later number."""

    def later() -> tuple[Ring, float] | None:
        found = wait_agreed(cluster, 40.0)
        return found if found[0][:2] > before[:2] else None

    found = wait_until(later, 40.0, f"a later ring than {before}")
    assert found is not None
    ring = found[0]
    print(f"{what}: ring {before[0]}.{before[1]} is now {ring[0]}.{ring[1]}")
    return ring


def test_a_wiped_zookeeper_gets_the_ring_again_under_a_later_number_and_nobody_moves(
    server: RealZooKeeper, cluster: Cluster
) -> None:
    before, _ = wait_agreed(cluster)
    with PlainClients(urls(cluster), UIDS) as crowd, Prober(urls(cluster)) as prober:
        server.wipe()
        after = agree_later(cluster, before, "wiped")
        assert after[2] == before[2]
        assert not crowd.codes()
        assert not crowd.told_to_move()
        assert not prober.failures
        cluster.add_node()
        assert agree_later(cluster, after, "a join after that")[2] != before[2]


def test_a_zookeeper_restored_from_an_older_copy_does_not_take_anybody_back(
    server: RealZooKeeper, cluster: Cluster
) -> None:
    copy = server.back_up()
    wait_agreed(cluster)
    cluster.add_node()
    cluster.nodes["node-1"].terminate()
    assert cluster.nodes["node-1"].wait_exit() == 0
    cluster.wait_gone("node-1")
    before, _ = wait_agreed(cluster)
    with PlainClients(urls(cluster), UIDS) as crowd, Prober(urls(cluster)) as prober:
        server.restore(copy)
        after = agree_later(cluster, before, "restored")
        wait_until(lambda: cluster.active() == {"node-2", "node-3", "node-4"}, 20.0, "the ring of before the restore")
        assert after[:2] > before[:2]
        assert not crowd.codes()
        assert not crowd.told_to_move()
        assert not prober.failures


def test_a_cluster_that_starts_without_zookeeper_answers_from_the_mirror_in_redis(
    server: RealZooKeeper, cluster: Cluster
) -> None:
    before, _ = wait_agreed(cluster)
    ports = {node.id: node.http.rpartition(":")[2] for node in cluster.nodes.values()}
    for part in (*cluster.nodes.values(), *cluster.lookups):
        part.kill()
    server.stop()
    cluster.add_lookup(env={"RINGWAY_PORT": str(pick_port())})
    for node_id, port in ports.items():
        cluster.add_node(node_id, wait=False, env={"RINGWAY_PORT": port})
    answer = cluster.route("alice")
    assert answer["stale"] is True
    assert (answer["gen"], answer["epoch"]) == before[:2]
    with PlainClients(urls(cluster), UIDS) as crowd, Prober(urls(cluster)) as prober:
        server.start()
        after = wait_until(lambda: wait_agreed(cluster, 30.0)[0], 30.0)
        wait_until(lambda: cluster.active() == set(ports), 20.0)
        assert after[:2] >= before[:2]
        assert not crowd.codes()
        assert not prober.failures


def test_a_forged_ring_is_dropped_by_all_with_an_alarm_and_replaced(server: RealZooKeeper, cluster: Cluster) -> None:
    before, _ = wait_agreed(cluster)
    path = f"/ringway/{cluster.name}/ring"
    intruder = KazooClient(server.address)
    intruder.start()
    try:
        genuine = RingDocument.parse(intruder.get(path)[0], KEYS)
        stranger = KeyRing.parse("k1:the-secret-of-somebody-else")
        forged = RingDocument.sign(
            version=Version(genuine.gen + 1, 1), alg=genuine.alg, members=genuine.members[:1], keys=stranger
        )
        with PlainClients(urls(cluster), UIDS) as crowd, Prober(urls(cluster)) as prober:
            for bad in (forged.to_bytes(), b'{"gen": 9, "epoch": 9, "members": []}', b"not even json"):
                intruder.set(path, bad)
                wait_until(lambda: _verifies(intruder.get(path)[0]), 10.0, "a ring of ours stands there again")
            after, _ = wait_agreed(cluster)
            assert after[:2] > before[:2]
            assert after[2] == before[2]
            assert not crowd.codes()
            assert not prober.failures
    finally:
        intruder.stop()
        intruder.close()
    wait_until(lambda: _alarms(cluster, "publisher") >= 3 and _alarms(cluster, "reader") >= 2, 5.0, "alarms are shown")
    dropped = [node.metric("ringway_node_documents_refused_total") for node in cluster.nodes.values()]
    assert min(dropped) >= 1


def _verifies(data: bytes) -> bool:
    try:
        return bool(RingDocument.parse(data, KEYS).members)
    except DocumentError:
        return False


def _alarms(cluster: Cluster, part: str) -> float:
    texts = [web.get(f"{url}/metrics").text for url in urls(cluster)]
    return sum(metric(text, "ringway_lookup_ring_alarms", part=part) for text in texts)
