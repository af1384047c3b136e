"""How many connects it takes to be placed while the ring changes and every party sees the changes at another time.

The scenario of the design's table: three lookups, ten nodes and more, three changes of the ring within some seconds,
each party's view of them late by anything up to two seconds, drawn anew four times a second. Here with real
processes: each party reaches ZooKeeper and Redis through a proxy of its own that holds back what they push.

What is fenced is a late view. That a node died a moment ago is in nobody's view: only a connect can find out. Such
connects are counted apart too, for what they tell; they are connects like the others, and two is what any client makes.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ringway.client_sdk import AsyncClient
from ringway.client_sdk.events import Connect
from tests.harness.agreement import wait_agreed
from tests.harness.cluster import Cluster
from tests.harness.delays import DelayProxy
from tests.harness.redises import RealRedis
from tests.harness.zookeepers import Stoppable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
MAX_LAG_S = 2.0
SLOW_ANSWERS = 0.2  # Redis answers within 0.4 s: longer than a lookup's patience for a refresh, less than a node's
NO_ANSWER = 1006  # no node is there, or it died before it had taken the session or refused it
NODES, LOOKUPS, STAYING, ARRIVALS_A_SECOND, SECONDS = 5, 3, 100, 30, 12.0


@dataclass
class Placements:
    """Each time that a client was placed: connects that a node answered, those no node did, seconds since the first."""

    connects: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    stories: list[list[str]] = field(default_factory=list)  # of those that took more than they may

    @property
    def totals(self) -> list[int]:
        """All connects until each was placed."""
        return [sum(both) for both in zip(self.connects, self.unanswered, strict=True)]

    def __str__(self) -> str:
        took = sorted(self.took_s)
        spread = dict(sorted(Counter(self.connects).items()))
        total = dict(sorted(Counter(self.totals).items()))
        times = f"median {took[len(took) // 2]:.3f}, p99 {took[int(len(took) * 0.99)]:.2f}, most {took[-1]:.2f}"
        dead = dict(sorted(Counter(self.unanswered).items()))
        return (f"{len(self.connects)} placements, connects {total}, mean {statistics.mean(self.totals):.3f}; "
                f"answered {spread}, of a dead node {dead}; seconds: {times}; "
                f"failed connects by cause: {dict(self.codes)}; {self.stories}")


class Counting(AsyncClient):
    """The SDK's client, with its connects counted until one of them is taken into use."""

    def __init__(self, lookups: list[str], uid: str, placements: Placements) -> None:
        super().__init__(lookups, uid)
        self._placements, self._connects, self._unanswered, self._since = placements, 0, 0, 0.0
        self._story: list[str] = []

    def _connect(self, action: Connect) -> None:
        self._since = self._since if self._connects or self._unanswered else time.monotonic()
        self._connects += 1
        self._story.append(f"{time.strftime('%H:%M:%S')} {self._machine.node or 'moved'} {self._machine.epoch}")
        super()._connect(action)

    def _over(self, connection: Any, code: int, reason: str) -> None:
        self._story.append(f"{time.strftime('%H:%M:%S')} lost: {code} {reason[:60]}")
        if connection is not self._live:
            if code == NO_ANSWER:
                self._connects, self._unanswered = self._connects - 1, self._unanswered + 1
            self._placements.codes[f"{code} {reason[:40]}" if code < 4000 else str(code)] += 1
        super()._over(connection, code, reason)

    def _adopt(self, stamp: int) -> None:
        if self._connects + self._unanswered > 2:
            self._placements.stories.append([self.uid, *self._story])
        self._story.clear()
        self._placements.connects.append(self._connects)
        self._placements.took_s.append(time.monotonic() - self._since)
        self._placements.unanswered.append(self._unanswered)
        self._connects = self._unanswered = 0
        super()._adopt(stamp)


class Lags:
    """The proxies of all parties, and the dice that set their delays."""

    def __init__(self, zookeeper: str, redis: RealRedis, stack: ExitStack, *, answers: float) -> None:
        self._zookeeper, self._redis, self._stack, self._answers = zookeeper, redis, stack, answers
        self._proxies: list[tuple[DelayProxy, DelayProxy]] = []

    def env(self) -> dict[str, str]:
        """The variables of one more party, which reaches both through proxies of its own."""
        zookeeper = self._stack.enter_context(DelayProxy(self._zookeeper))
        redis = DelayProxy(f"127.0.0.1:{self._redis.port}", answers=self._answers)
        self._proxies.append((zookeeper, self._stack.enter_context(redis)))
        return {"RINGWAY_ZOOKEEPER": zookeeper.address, "RINGWAY_REDIS": f"redis://{redis.address}/0"}

    async def roll(self) -> None:
        chance = random.Random(7)
        while True:
            for zookeeper, redis in self._proxies:
                zookeeper.delay_s = redis.delay_s = chance.uniform(0.0, MAX_LAG_S)
            await asyncio.sleep(0.25)


@contextmanager
def lagging(zookeeper: str, redis: RealRedis, *, answers: float) -> Iterator[tuple[Cluster, Lags]]:
    env = {"RINGWAY_ZOOKEEPER_TIMEOUT": "10", "RINGWAY_MOVE_DEADLINE": "4"}
    with ExitStack() as stack:
        lags = Lags(zookeeper, redis, stack, answers=answers)
        cluster = stack.enter_context(Cluster(zookeeper=zookeeper, redis=redis.url, nodes=0, lookups=0, env=env))
        for number in range(LOOKUPS):  # the publisher's own way is not delayed: it is the authority
            cluster.add_lookup(env=lags.env() if number else None)
        for _ in range(NODES):
            cluster.add_node(wait=False, env=lags.env())
        cluster.wait_active(set(cluster.nodes))
        wait_agreed(cluster)
        yield cluster, lags


async def arrive(cluster: Cluster, number: int, placements: Placements) -> None:
    client = Counting([lookup.url for lookup in cluster.lookups], f"arrival-{number}", placements)
    try:
        await client.connect(timeout=60)
        await asyncio.sleep(2.0)
    finally:
        await client.close()


async def change_ring(cluster: Cluster, lags: Lags) -> None:
    """A join, a drain, and a death, in four seconds."""
    await asyncio.to_thread(cluster.add_node, "joined", wait=False, env=lags.env())
    await asyncio.sleep(2.0)
    cluster.nodes["node-1"].terminate()
    await asyncio.sleep(2.0)
    await asyncio.to_thread(cluster.nodes["node-2"].kill)


async def play(cluster: Cluster, lags: Lags) -> Placements:
    """Some stay all the time, others come all the time."""
    placements = Placements()
    urls = [lookup.url for lookup in cluster.lookups]
    staying = [Counting(urls, f"staying-{number}", placements) for number in range(STAYING)]
    await asyncio.gather(*(client.connect() for client in staying))
    rolling = asyncio.create_task(lags.roll())
    changing = asyncio.create_task(change_ring(cluster, lags))
    coming = []
    for number in range(int(SECONDS * ARRIVALS_A_SECOND)):
        coming.append(asyncio.create_task(arrive(cluster, number, placements)))
        await asyncio.sleep(1 / ARRIVALS_A_SECOND)
    await changing
    await asyncio.gather(*coming)
    rolling.cancel()
    await asyncio.gather(*(client.close() for client in staying))
    return placements


def test_at_most_two_connects_until_placed_while_all_see_the_ring_change_late(
    own_zookeeper: Stoppable, own_redis: RealRedis
) -> None:
    with lagging(own_zookeeper.address, own_redis, answers=0.0) as (cluster, lags):
        placements = asyncio.run(play(cluster, lags))
        print(f"\npushes late, answers prompt: {placements}")
        assert max(placements.totals) <= 2


def test_the_same_while_redis_is_slow_to_answer_too(
    own_zookeeper: Stoppable, own_redis: RealRedis
) -> None:
    with lagging(own_zookeeper.address, own_redis, answers=SLOW_ANSWERS) as (cluster, lags):
        placements = asyncio.run(play(cluster, lags))
        print(f"\npushes late, Redis slow: {placements}")
        # The fence needs an authority that answers. Where Redis is slow as well, a connect may be given up for that.
        assert sum(connects > 2 for connects in placements.connects) <= len(placements.connects) / 100
        assert max(placements.connects) <= 3
