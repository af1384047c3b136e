"""The clients of a node that dies come back through one lookup worker, without a stampede on any node.

2,000 of them: the clients and five servers share this machine's cores, so with the 5,000 of the promise a busy machine
would be what is measured. `python -m bench.crowd` has the 5,000 (bench/results/crowd.txt).
"""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.cluster import Cluster
from tests.harness.crowd import FEW, allow_files, come_back, per_second

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CLIENTS = 2000
BACK_S = 10.0  # from the moment that the node is found dead: until then nobody can send them anywhere else
SHARE = 2.0


def test_clients_of_a_killed_node_are_back_within_ten_seconds_through_one_lookup_worker(
    zookeeper: str, redis_url: str
) -> None:
    if not allow_files(CLIENTS + 2000):
        pytest.skip("the system does not allow so many open files")
    env = {"RINGWAY_PING": "300"}  # the light clients answer no pings
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=4, node_env=env) as cluster:
        done = asyncio.run(come_back(cluster, "node-2", CLIENTS))
    print(done)
    assert not done.crowd.improper, "refusals other than 429 and 503 with Retry-After"
    assert done.after_found_s < BACK_S
    # One process makes all handshakes, so what holds it up holds up those to every node alike.
    assert done.of_even_share <= SHARE
    slots = [(float(second), node) for second, node in done.crowd.slots]  # by the lookup's clock, in whole seconds
    assert [(most, of) for most, of in per_second(slots)
            if of >= FEW * done.nodes and most > SHARE * of / done.nodes] == []  # fmt: skip
