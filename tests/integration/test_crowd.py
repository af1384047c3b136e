"""5,000 clients of a node that dies come back through one lookup worker, without a stampede on any node."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import pytest

from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import Ring
from tests.harness.cluster import Cluster
from tests.harness.crowd import Crowd, allow_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CLIENTS = 5000
VICTIM = "node-2"


def uids_of(cluster: Cluster, node: str, count: int) -> list[str]:
    ring = Ring.build({m["id"]: m["vnodes"] for m in cluster.ring()["members"]}, hashing(XXH64))
    return list(itertools.islice((uid for n in itertools.count() if ring.owner(uid := f"crowd-{n}") == node), count))


def busiest(handshakes: list[tuple[float, str]]) -> list[tuple[int, int]]:
    """For each second, how many handshakes the busiest node got, and how many all nodes together."""
    seconds: dict[int, Counter[str]] = {}
    start = handshakes[0][0]
    for at, node in handshakes:
        seconds.setdefault(int(at - start), Counter())[node] += 1
    return [(max(nodes.values()), nodes.total()) for nodes in seconds.values()]


async def come_back(cluster: Cluster) -> tuple[Crowd, float]:
    """Open, kill the victim; the crowd, and after how many seconds all were back."""
    crowd = Crowd(cluster.url, uids_of(cluster, VICTIM, CLIENTS))
    try:
        await crowd.open_all()
        assert {client.node for client in crowd.clients} == {VICTIM}
        assert not crowd.improper
        crowd.handshakes.clear()
        await asyncio.to_thread(cluster.nodes[VICTIM].kill)
        killed = time.monotonic()
        while crowd.open == CLIENTS:
            await asyncio.sleep(0.01)
        await crowd.wait_open(30.0)
        return crowd, time.monotonic() - killed
    finally:
        await crowd.close()


def test_5000_clients_of_a_killed_node_come_back_through_one_lookup_worker(zookeeper: str, redis_url: str) -> None:
    if not allow_files(CLIENTS + 2000):
        pytest.skip("the system does not allow so many open files")
    env = {"RINGWAY_PING": "300"}  # the light clients answer no pings
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=4, node_env=env) as cluster:
        crowd, seconds = asyncio.run(come_back(cluster))
    print(f"{CLIENTS} clients back in {seconds:.1f} s; refused {dict(crowd.refusals)}; {busiest(crowd.handshakes)}")
    assert not crowd.improper, "refusals other than 429 and 503 with Retry-After"
    assert VICTIM not in {client.node for client in crowd.clients}
    # The seconds above are figures, not assertions: a busy machine must not fail a test. That no second, nor any other
    # window, gives a node more than its slots is shown without a clock in tests/lookup_service/test_slots.py.
    shares = Counter(client.node for client in crowd.clients)
    assert max(shares.values()) <= 2 * CLIENTS / len(shares), shares
