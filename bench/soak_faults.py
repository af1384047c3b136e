"""What `bench.soak` does to a cluster: each fault strikes, lasts, and heals; when it is over, everything runs again.

A fault is a generator that yields once: when its cure is applied. From then on the cluster is on the clock, and so
are the servers and processes that still have to start.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.harness.cluster import LookupServer

from .soak_rig import Rig, port_of
from .ways import Way

MOST_NODES, FEWEST_NODES = 5, 3
DRAIN_S = 90.0
FLAPS, QUIET_S = 4, 8.0  # the publishers' guard against flapping is set to these: nothing else here leaves so often
Healing = Iterator[None]


def server_killed(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, [chance.randrange(3)], chance.uniform(2, 10), kill=True)


def server_restarted(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, [chance.randrange(3)], 0.0, kill=True)


def server_frozen(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, [chance.randrange(3)], chance.uniform(2, 12), kill=False)


def leader_killed(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, [rig.ensemble.wait_leader()], chance.uniform(1, 8), kill=True)


def quorum_lost(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, chance.sample(range(3), 2), chance.uniform(3, 20), kill=chance.random() < 0.5)


def all_servers_killed(rig: Rig, chance: random.Random) -> Healing:
    return _strike_servers(rig, [0, 1, 2], chance.uniform(1, 10), kill=True)


def _strike_servers(rig: Rig, victims: Sequence[int], for_s: float, *, kill: bool) -> Healing:
    strike, heal = (rig.ensemble.kill, rig.ensemble.restart) if kill else (rig.ensemble.freeze, rig.ensemble.thaw)
    for victim in victims:
        strike(victim)
    time.sleep(for_s)
    for victim in victims:
        heal(victim)
    yield
    rig.ensemble.wait_leader()


def data_wiped(rig: Rig, chance: random.Random) -> Healing:
    rig.ensemble.wipe()
    yield
    rig.ensemble.wait_leader()


def data_restored(rig: Rig, chance: random.Random) -> Healing:
    """From a copy that is as old as the cluster."""
    rig.ensemble.restore(rig.backup)
    yield
    rig.ensemble.wait_leader()


def lookup_killed(rig: Rig, chance: random.Random) -> Healing:
    publisher = rig.publisher()
    others = [lookup for lookup in rig.lookups() if lookup is not publisher]
    return _replace_lookup(rig, chance.choice(others), chance)


def publisher_killed(rig: Rig, chance: random.Random) -> Healing:
    return _replace_lookup(rig, rig.publisher(), chance)


def _replace_lookup(rig: Rig, lookup: LookupServer, chance: random.Random) -> Healing:
    """kill -9, and a new process at the same address."""
    with rig.hurting(lookup.url):
        lookup.kill()
        time.sleep(chance.uniform(0.5, 5))
        yield
        rig.start_lookup(port_of(lookup))


def lookup_frozen(rig: Rig, chance: random.Random) -> Healing:
    lookup = chance.choice(rig.lookups())
    with rig.hurting(lookup.url):
        lookup.freeze()
        time.sleep(chance.uniform(2, 15))
        lookup.thaw()
    yield


def lookup_cut_off(rig: Rig, chance: random.Random) -> Healing:
    """From ZooKeeper, by the network. It answers all the while."""
    return _cut(rig.way_of(chance.choice(rig.lookups())), chance)


def publisher_cut_off(rig: Rig, chance: random.Random) -> Healing:
    return _cut(rig.way_of(rig.publisher()), chance)


def node_cut_off(rig: Rig, chance: random.Random) -> Healing:
    """From ZooKeeper, by the network, for less or more than its session lives: its own sessions are healthy."""
    return _cut(rig.way(chance.choice(rig.nodes()).id), chance)


def _cut(way: Way, chance: random.Random) -> Healing:
    way.cut()
    time.sleep(chance.uniform(2, 15))
    way.mend()
    yield


def node_killed(rig: Rig, chance: random.Random) -> Healing:
    """kill -9; another one of that id comes up before or after its session has ended."""
    node = chance.choice(rig.nodes())
    with rig.hurting(node.id):
        node.kill()
        time.sleep(chance.uniform(0.5, 12))
        yield
        rig.start_node(node.id)


def node_frozen(rig: Rig, chance: random.Random) -> Healing:
    """Its sessions are healthy again when it thaws, so nobody may be closed."""
    node = chance.choice(rig.nodes())
    with rig.freezing(node.id):
        node.freeze()
        time.sleep(chance.uniform(2, 15))
        node.thaw()
    yield


def node_flaps(rig: Rig, chance: random.Random) -> Healing:
    """kill -9 and a new start, until the guard has had enough of it."""
    name = chance.choice(rig.nodes()).id
    with rig.hurting(name):
        for _ in range(FLAPS):
            rig.cluster.nodes[name].kill()
            time.sleep(chance.uniform(0.2, 1))
            rig.start_node(name)
    rig.flapped.append((name, time.monotonic()))
    yield


def node_added_or_drained(rig: Rig, chance: random.Random) -> Healing:
    """One or the other, so that their number stays between three and five."""
    nodes = rig.nodes()
    if len(nodes) <= FEWEST_NODES or (len(nodes) < MOST_NODES and chance.random() < 0.5):
        rig.started += 1
        rig.start_node(f"extra-{rig.started}")
        yield
        return
    node = chance.choice(nodes)
    with rig.draining(node.id):
        node.terminate()
        assert node.wait_exit(DRAIN_S) == 0, f"{node.id} did not drain cleanly"
    yield


def redis_restarted(rig: Rig, chance: random.Random) -> Healing:
    rig.redis.kill()
    time.sleep(chance.uniform(0.2, 6))
    yield
    rig.redis.start()


class Fault(NamedTuple):
    """`family`: two faults of one family never strike together. `weight`: how often, relative to the others."""

    name: str
    family: str
    strike: Callable[[Rig, random.Random], Healing]
    weight: float = 1.0


FAULTS = (
    Fault("ZooKeeper server killed", "zookeeper", server_killed),
    Fault("ZooKeeper server restarted", "zookeeper", server_restarted),
    Fault("ZooKeeper server frozen", "zookeeper", server_frozen),
    Fault("ZooKeeper leader killed", "zookeeper", leader_killed),
    Fault("ZooKeeper quorum lost", "zookeeper", quorum_lost, 1.5),
    Fault("ZooKeeper all killed", "zookeeper", all_servers_killed, 0.5),
    Fault("ZooKeeper wiped", "zookeeper", data_wiped, 0.5),
    Fault("ZooKeeper restored", "zookeeper", data_restored, 0.5),
    Fault("lookup killed", "lookup", lookup_killed),
    Fault("publisher killed", "lookup", publisher_killed),
    Fault("lookup frozen", "lookup", lookup_frozen),
    Fault("lookup cut off", "lookup", lookup_cut_off),
    Fault("publisher cut off", "lookup", publisher_cut_off),
    Fault("node killed", "node", node_killed),
    Fault("node frozen", "node", node_frozen),
    Fault("node cut off", "node", node_cut_off),
    Fault("node flaps", "node", node_flaps),
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


class Strike:
    """Faults that strike at the same time, each in a thread of its own from the beginning."""

    def __init__(self, rig: Rig, faults: Sequence[Fault], chance: random.Random) -> None:
        self._healed: dict[int, float] = {}
        self._errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._run, args=(rig, number, fault, random.Random(chance.random())))
                         for number, fault in enumerate(faults)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    @property
    def healed_at(self) -> float | None:
        """When the last of them was healed; None: not yet."""
        return max(self._healed.values()) if len(self._healed) == len(self._threads) else None

    @property
    def over(self) -> bool:
        """Whether all that was struck is up again."""
        return not any(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Wait for it. Raises the first error of any fault."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _run(self, rig: Rig, number: int, fault: Fault, chance: random.Random) -> None:
        try:
            for _ in fault.strike(rig, chance):
                self._healed[number] = time.monotonic()
        except Exception as error:  # noqa: BLE001 - a thread's boundary: raised again in `end`
            self._errors.append(error)
        finally:
            self._healed.setdefault(number, time.monotonic())
