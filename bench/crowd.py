"""`python -m bench.crowd`: 5,000 clients of a node that is killed come back through one lookup worker.

Within ten seconds of the moment that the node is found dead, no node with more than twice its even share of the
handshakes in any second, and no refusals but 429 and 503 with Retry-After. Several runs, each on a cluster of its own;
all of them are in bench/results/crowd.txt. Exit code 1 where one fails.
"""

from __future__ import annotations

import asyncio
import os
import sys

import click

from tests.harness import redises, zookeepers
from tests.harness.cluster import Cluster
from tests.harness.crowd import Return, allow_files, come_back

from .results import RESULTS

BACK_S, SHARE = 10.0, 2.0


def once(clients: int) -> Return:
    env = {"RINGWAY_PING": "300"}  # the light clients answer no pings
    with (
        zookeepers.own() as zookeeper,
        redises.RealRedis() as redis,
        Cluster(zookeeper=zookeeper.address, redis=redis.url, nodes=4, node_env=env) as cluster,
    ):
        return asyncio.run(come_back(cluster, "node-2", clients))


def fine(done: Return) -> bool:
    return not done.crowd.improper and done.after_found_s < BACK_S and done.of_even_share <= SHARE


@click.command(help=__doc__)
@click.option("--clients", default=5000)
@click.option("--runs", default=5)
def main(clients: int, runs: int) -> None:
    allow_files(clients + 2000)
    lines, bad = [], 0
    for number in range(runs):
        load, done = os.getloadavg()[0], once(clients)
        bad += not fine(done)
        lines.append(f"run {number + 1}, load {load:.0f}{'' if fine(done) else ', NOT AS PROMISED'}: {done}")
        print(lines[-1], flush=True)
    (RESULTS / "crowd.txt").write_text("\n".join(lines) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
