"""A real ensemble of three ZooKeeper servers fails in every way it can; sessions and routes do not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.harness import zookeeper_java
from tests.harness.agreement import Prober, Ring, wait_agreed
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster
from tests.harness.redises import Provider as Redis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Ensemble

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(300),
    pytest.mark.skipif(not zookeeper_java.available(), reason="an ensemble needs Debian's zookeeper package"),
]  # fmt: skip
SESSIONS = 500
SESSION_TIMEOUT_S = 6.0
AGREE_S = 15.0


@dataclass
class Stage:
    """An ensemble, a cluster on it with a crowd, and somebody who asks for routes all the time."""

    ensemble: Ensemble
    cluster: Cluster
    crowd: PlainClients
    prober: Prober
    ring: Ring

    def undisturbed(self) -> None:
        """Nobody was closed or told to move, and every route request was answered, from no older ring."""
        assert not self.crowd.codes(), self.crowd.codes()
        assert not self.crowd.told_to_move()
        assert not self.prober.failures, self.prober.failures[:10]

    def agree(self, what: str) -> Ring:
        """Until all parts agree again; says how long that took. Nobody moves, even where another publisher began."""
        before, (ring, took_s) = self.ring, wait_agreed(self.cluster, AGREE_S)
        print(f"{what}: all parts agree on ring {ring[0]}.{ring[1]} after {took_s:.2f} s")
        assert ring[:2] >= before[:2]
        assert ring[2] == before[2], "the members are others"
        self.ring = ring
        return ring


@pytest.fixture
def stage(redis_server: Redis) -> Iterator[Stage]:
    uids = [f"user-{i}" for i in range(SESSIONS)]
    env = {"RINGWAY_ZOOKEEPER_TIMEOUT": str(SESSION_TIMEOUT_S)}
    with (
        Ensemble() as ensemble,
        Cluster(zookeeper=ensemble.address, redis=redis_server.url, nodes=3, lookups=2, env=env) as cluster,
        PlainClients([lookup.url for lookup in cluster.lookups], uids) as crowd,
        Prober([lookup.url for lookup in cluster.lookups]) as prober,
    ):
        yield Stage(ensemble, cluster, crowd, prober, wait_agreed(cluster)[0])


def leader_killed_and_back(stage: Stage) -> None:
    leader = stage.ensemble.wait_leader()
    stage.ensemble.kill(leader)
    stage.ensemble.wait_leader()
    stage.agree("leader killed")
    stage.ensemble.restart(leader)
    stage.ensemble.wait_leader()
    stage.agree("leader back")
    stage.undisturbed()


def follower_frozen_and_thawed(stage: Stage) -> None:
    stage.ensemble.wait_leader()
    follower = stage.ensemble.followers()[0]
    stage.ensemble.freeze(follower)
    try:
        time.sleep(1.5 * SESSION_TIMEOUT_S)  # its clients have gone elsewhere by then, or their sessions are over
        stage.agree("follower frozen")
    finally:
        stage.ensemble.thaw(follower)
    stage.ensemble.wait_leader()
    stage.agree("follower thawed")
    stage.undisturbed()


def quorum_lost_for_longer_than_a_session_lives(stage: Stage, how: str) -> None:
    stage.ensemble.wait_leader()
    victims = stage.ensemble.followers()
    strike: Callable[[int], None] = stage.ensemble.kill if how == "killed" else stage.ensemble.freeze
    heal: Callable[[int], None] = stage.ensemble.restart if how == "killed" else stage.ensemble.thaw
    since = time.monotonic()
    for victim in victims:
        strike(victim)
    try:
        time.sleep(2 * SESSION_TIMEOUT_S)
        told = [asked.stale[-1] for asked in stage.prober.asked.values()]
        until = time.monotonic()
    finally:
        for victim in victims:
            heal(victim)
    stage.ensemble.wait_leader()
    stage.agree(f"quorum back ({how})")
    assert min(told) > until - 1.0, "stale is not said while ZooKeeper is away"
    for asked in stage.prober.asked.values():
        first = next(at for at in asked.stale if at > since)
        print(f"stale said after {first - since:.2f} s; {asked.answers} answers, slowest {asked.slowest_s:.3f} s")
        wait_until(lambda asked=asked: asked.fresh[-1] > asked.stale[-1], 5.0)  # type: ignore[misc]
    stage.undisturbed()


def node_joins(stage: Stage) -> None:
    """What counts in the end: a change still reaches everybody."""
    stage.cluster.add_node()
    ring, took_s = wait_agreed(stage.cluster, AGREE_S)
    print(f"a join: all parts agree on ring {ring[0]}.{ring[1]} after {took_s:.2f} s")
    assert ring[:2] > stage.ring[:2]
    assert ring[2] != stage.ring[2]
    assert not stage.crowd.codes().keys() - {4300}
    assert not stage.prober.failures


def test_sessions_and_routes_outlive_whatever_happens_to_the_ensemble(stage: Stage) -> None:
    leader_killed_and_back(stage)
    follower_frozen_and_thawed(stage)
    quorum_lost_for_longer_than_a_session_lives(stage, "killed")
    quorum_lost_for_longer_than_a_session_lives(stage, "frozen")
    node_joins(stage)
