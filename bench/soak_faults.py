"""What `bench.soak` does to a cluster: each fault strikes, lasts, and heals; when it returns, everything runs again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from tests.harness.cluster import Cluster, LookupServer, NodeServer, metric
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Ensemble

MOST_NODES, FEWEST_NODES = 5, 3
DRAIN_S = 90.0


@dataclass
class Rig:
    """The cluster and its servers. `hurt` has when which part was struck and healed: (name, from, until)."""

    cluster: Cluster
    ensemble: Ensemble
    redis: RealRedis
    hurt: list[tuple[str, float, float]] = field(default_factory=list)
    started: int = 0

    @contextmanager
    def hurting(self, name: str) -> Iterator[None]:
        """Notes for how long a part cannot be expected to do anything."""
        since = time.monotonic()
        self.hurt.append((name, since, float("inf")))
        place = len(self.hurt) - 1
        try:
            yield
        finally:
            self.hurt[place] = (name, since, time.monotonic())

    def was_hurt(self, name: str, at: float, grace_s: float) -> bool:
        return any(part == name and since - 0.5 <= at <= until + grace_s for part, since, until in self.hurt)

    def nodes(self) -> list[NodeServer]:
        return [node for _, node in sorted(self.cluster.nodes.items()) if node.alive]

    def lookups(self) -> list[LookupServer]:
        return [lookup for lookup in self.cluster.lookups if lookup.alive]

    def publisher(self) -> LookupServer:
        """Who publishes now; some lookup, where nobody does (ZooKeeper is away)."""
        for lookup in self.lookups():
            try:
                if metric(httpx.get(f"{lookup.url}/metrics", timeout=2.0).text, "ringway_lookup_publisher") > 0:
                    return lookup
            except httpx.HTTPError:
                continue
        return self.lookups()[0]


def server_killed(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, [chance.randrange(3)], chance.uniform(2, 10), kill=True)


def server_restarted(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, [chance.randrange(3)], 0.0, kill=True)


def server_frozen(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, [chance.randrange(3)], chance.uniform(2, 12), kill=False)


def leader_killed(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, [rig.ensemble.wait_leader()], chance.uniform(1, 8), kill=True)


def quorum_lost(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, chance.sample(range(3), 2), chance.uniform(3, 20), kill=chance.random() < 0.5)


def all_servers_killed(rig: Rig, chance: random.Random) -> None:
    _strike_servers(rig, [0, 1, 2], chance.uniform(1, 10), kill=True)


def _strike_servers(rig: Rig, victims: Sequence[int], for_s: float, *, kill: bool) -> None:
    strike, heal = (rig.ensemble.kill, rig.ensemble.restart) if kill else (rig.ensemble.freeze, rig.ensemble.thaw)
    for victim in victims:
        strike(victim)
    time.sleep(for_s)
    for victim in victims:
        heal(victim)
    rig.ensemble.wait_leader()


def lookup_killed(rig: Rig, chance: random.Random) -> None:
    publisher = rig.publisher()
    others = [lookup for lookup in rig.lookups() if lookup is not publisher]
    _replace_lookup(rig, chance.choice(others), chance)


def publisher_killed(rig: Rig, chance: random.Random) -> None:
    _replace_lookup(rig, rig.publisher(), chance)


def _replace_lookup(rig: Rig, lookup: LookupServer, chance: random.Random) -> None:
    """kill -9, and a new process at the same address: clients have a list of addresses."""
    with rig.hurting(lookup.url):
        lookup.kill()
        time.sleep(chance.uniform(0.5, 5))
        rig.cluster.add_lookup(env={"RINGWAY_PORT": lookup.url.rpartition(":")[2]})


def lookup_frozen(rig: Rig, chance: random.Random) -> None:
    lookup = chance.choice(rig.lookups())
    with rig.hurting(lookup.url):
        lookup.freeze()
        time.sleep(chance.uniform(2, 15))
        lookup.thaw()


def node_killed(rig: Rig, chance: random.Random) -> None:
    """kill -9; another one of that id comes up before or after its session has ended."""
    node = chance.choice(rig.nodes())
    with rig.hurting(node.id):
        node.kill()
        time.sleep(chance.uniform(0.5, 12))
        rig.cluster.add_node(node.id, wait=False)


def node_frozen(rig: Rig, chance: random.Random) -> None:
    """Its sessions are healthy again when it thaws, so nobody may be closed."""
    node = chance.choice(rig.nodes())
    node.freeze()
    time.sleep(chance.uniform(2, 15))
    node.thaw()


def node_added_or_drained(rig: Rig, chance: random.Random) -> None:
    """One or the other, so that their number stays between three and five."""
    nodes = rig.nodes()
    if len(nodes) <= FEWEST_NODES or (len(nodes) < MOST_NODES and chance.random() < 0.5):
        rig.started += 1
        rig.cluster.add_node(f"extra-{rig.started}", wait=False)
        return
    node = chance.choice(nodes)
    node.terminate()
    assert node.wait_exit(DRAIN_S) == 0, f"{node.id} did not drain cleanly"


def redis_restarted(rig: Rig, chance: random.Random) -> None:
    rig.redis.kill()
    time.sleep(chance.uniform(0.2, 6))
    rig.redis.start()


class Fault(NamedTuple):
    """`family`: two faults of one family never strike together. `weight`: how often, relative to the others."""

    name: str
    family: str
    strike: Callable[[Rig, random.Random], None]
    weight: float = 1.0


FAULTS = (
    Fault("ZooKeeper server killed", "zookeeper", server_killed),
    Fault("ZooKeeper server restarted", "zookeeper", server_restarted),
    Fault("ZooKeeper server frozen", "zookeeper", server_frozen),
    Fault("ZooKeeper leader killed", "zookeeper", leader_killed),
    Fault("ZooKeeper quorum lost", "zookeeper", quorum_lost, 1.5),
    Fault("ZooKeeper all killed", "zookeeper", all_servers_killed, 0.5),
    Fault("lookup killed", "lookup", lookup_killed),
    Fault("publisher killed", "lookup", publisher_killed),
    Fault("lookup frozen", "lookup", lookup_frozen),
    Fault("node killed", "node", node_killed),
    Fault("node frozen", "node", node_frozen),
    Fault("node added or drained", "node", node_added_or_drained, 1.5),
    Fault("Redis restarted", "redis", redis_restarted),
)
TOGETHER = 0.3  # how often a second fault of another family strikes at the same time


def choose(chance: random.Random) -> list[Fault]:
    """One fault, or two that do not get into each other's way."""
    first = chance.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
    if chance.random() >= TOGETHER:
        return [first]
    others = [fault for fault in FAULTS if fault.family != first.family]
    return [first, chance.choices(others, [fault.weight for fault in others])[0]]


def strike(rig: Rig, faults: Sequence[Fault], chance: random.Random) -> None:
    """Run these faults at the same time, until all have healed. Raises the first error of any."""
    errors: list[Exception] = []

    def run(fault: Fault, own_chance: random.Random) -> None:
        try:
            fault.strike(rig, own_chance)
        except Exception as error:  # noqa: BLE001 - a thread's boundary: raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(fault, random.Random(chance.random()))) for fault in faults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_all_answer(rig: Rig, timeout_s: float = 20.0) -> None:
    """Until each live part answers HTTP at all: one that has thawed works off what was waiting."""
    for base in [lookup.url for lookup in rig.lookups()] + [node.http for node in rig.nodes()]:
        wait_until(lambda base=base: httpx.get(f"{base}/livez", timeout=2.0).is_success, timeout_s,  # type: ignore[misc]
                   f"{base} answers", ignore=(httpx.HTTPError,))
