"""What can happen to a cluster, as named faults: `Rig` holds the servers, FAULTS the things to do to them.

Each fault blocks until it is over, which includes that what was killed has been replaced, as an operator would.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx

from ringway.chaos.run import Fault
from tests.harness import web, zookeepers
from tests.harness.cluster import Cluster, LookupServer, NodeServer, metric
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Stoppable

NODES, LOOKUPS = 3, 2
FREEZE_S = 8.0
REDIS_FREEZE_S = 3.0  # longer than a node waits for an answer
DROPS, DROP_EVERY_S = 5, 0.4


@dataclass
class Rig:
    """A cluster whose servers may all fail. Faults may run at the same time; each takes a node that no other has."""

    cluster: Cluster
    zookeeper: Stoppable
    redis: RealRedis
    chance: random.Random
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def some_node(self) -> Iterator[NodeServer]:
        """A node to do something to; one stays alone, so that there is always somewhere to go."""
        with self._lock:
            free = [node for name, node in sorted(self.cluster.nodes.items()) if node.alive and name not in self._busy]
            node = self.chance.choice(free)
            self._busy.add(node.id)
        try:
            yield node
        finally:
            with self._lock:
                self._busy.discard(node.id)

    def publisher(self) -> LookupServer:
        """The lookup process that publishes the ring now."""
        found = wait_until(self._publisher, 30.0, "a publisher", ignore=(httpx.HTTPError,))
        assert found is not None
        return found

    def _publisher(self) -> LookupServer | None:
        alive = [lookup for lookup in self.cluster.lookups if lookup.alive]
        return next((lookup for lookup in alive if _publishes(lookup)), None)

    def heal(self) -> None:
        """Back to the nodes it began with: takes away those that joined, replaces those that went."""
        wanted = {f"node-{number}" for number in range(1, NODES + 1)}
        for node in [each for each in self.cluster.nodes.values() if each.alive and each.id not in wanted]:
            node.terminate()
            assert node.wait_exit(60.0) == 0
            self.cluster.wait_gone(node.id)
        for name in sorted(wanted):
            if not self.cluster.nodes[name].alive:
                self.cluster.add_node(name)

    def fresh_id(self) -> str:
        with self._lock:
            name = f"node-{len(self.cluster.nodes) + 1}"
            self._busy.add(name)
        return name


@contextmanager
def rig(seed: int = 1, *, fsync: str = "everysec", env: Mapping[str, str] | None = None) -> Iterator[Rig]:
    """Three nodes, two lookups, a ZooKeeper and a Redis with its append-only file, all of our own."""
    with (
        zookeepers.own() as zookeeper,
        RealRedis(durable=True, fsync=fsync) as redis,
        Cluster(zookeeper=zookeeper.address, redis=redis.url, nodes=0, lookups=0, node_env=env) as cluster,
    ):
        for _ in range(LOOKUPS):  # ports below the ephemeral range, so that a killed lookup gets its own back
            cluster.add_lookup(env={"RINGWAY_PORT": str(pick_port())})
        for _ in range(NODES):
            cluster.add_node(wait=False)
        cluster.wait_active(set(cluster.nodes))
        yield Rig(cluster, zookeeper, redis, random.Random(seed))


def _publishes(lookup: LookupServer) -> bool:
    return metric(web.get(f"{lookup.url}/metrics", timeout=2.0).text, "ringway_lookup_publisher") > 0


def join(rig: Rig) -> None:
    rig.cluster.add_node(rig.fresh_id())


def drain(rig: Rig) -> None:
    with rig.some_node() as node:
        node.terminate()
        assert node.wait_exit(60.0) == 0


def kill_node(rig: Rig) -> None:
    """kill -9; a replacement with the same id comes up two seconds later, as from a supervisor."""
    with rig.some_node() as node:
        node.kill()
        time.sleep(2.0)
        rig.cluster.add_node(node.id)


def freeze_node(rig: Rig) -> None:
    with rig.some_node() as node:
        node.freeze()
        time.sleep(FREEZE_S)
        node.thaw()


def kill_lookup(rig: Rig) -> None:
    """One that does not publish, if there is one."""
    publisher = rig.publisher()
    others = [lookup for lookup in rig.cluster.lookups if lookup.alive and lookup is not publisher]
    _replace(rig, rig.chance.choice(others or [publisher]))


def kill_publisher(rig: Rig) -> None:
    _replace(rig, rig.publisher())


def _replace(rig: Rig, lookup: LookupServer) -> None:
    """kill -9, and a new process at the same address: clients have a list of addresses."""
    lookup.kill()
    time.sleep(1.0)
    rig.cluster.add_lookup(env={"RINGWAY_PORT": lookup.url.rpartition(":")[2]})


def restart_zookeeper(rig: Rig) -> None:
    """kill -9, some seconds without it, and a start with its data."""
    rig.zookeeper.kill()
    time.sleep(3.0)
    rig.zookeeper.start()


def restart_redis(rig: Rig) -> None:
    """kill -9, a second without it, and a start with its append-only file."""
    rig.redis.kill()
    time.sleep(1.0)
    rig.redis.start()


def freeze_redis(rig: Rig) -> None:
    """SIGSTOP for three seconds: connections stay open, and what is asked meanwhile is answered late or given up."""
    rig.redis.freeze()
    time.sleep(REDIS_FREEZE_S)
    rig.redis.thaw()


def lose_power(rig: Rig) -> None:
    """Redis loses what it said ok to within the last half second, as everysec allows when the power fails."""
    size = rig.redis.journal_size()
    time.sleep(0.5)
    rig.redis.lose_after(size)


def drop_redis(rig: Rig) -> None:
    """CLIENT KILL of all connections, subscribers too, several times."""
    for _ in range(DROPS):
        rig.redis.drop_clients()
        time.sleep(DROP_EVERY_S)


def drop_appends(rig: Rig) -> None:
    """The same to the connections that append alone: subscribers and readers go on."""
    dropped = 0
    for _ in range(DROPS):
        dropped += rig.redis.drop_appenders()
        time.sleep(DROP_EVERY_S)
    assert dropped, "nobody appended"


FAULTS: dict[str, Callable[[Rig], None]] = {
    "node joins": join,
    "node drains": drain,
    "node killed": kill_node,
    "lookup killed": kill_lookup,
    "publisher killed": kill_publisher,
    "ZooKeeper restarts": restart_zookeeper,
    "Redis restarts": restart_redis,
    "Redis connections dropped": drop_redis,
    "Redis appends dropped": drop_appends,
    "Redis frozen": freeze_redis,
    "node frozen": freeze_node,
}
# Alone only: with the node that had the ok killed at the same time, a message may be gone.
HARDER: dict[str, Callable[[Rig], None]] = {"Redis loses power": lose_power}


def rolling_restart(rig: Rig) -> None:
    """Drain and start each node, one after the other, with the same ids."""
    for node in [each for each in rig.cluster.nodes.values() if each.alive]:
        node.terminate()
        assert node.wait_exit(60.0) == 0
        rig.cluster.wait_gone(node.id)
        rig.cluster.add_node(node.id)


def faults(rig: Rig, names: list[str]) -> list[Fault]:
    """These faults, for `ringway.chaos.run`."""
    return [Fault(name, partial((FAULTS | HARDER)[name], rig)) for name in names]
