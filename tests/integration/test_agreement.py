"""Lookups agree, and the cluster outlives its coordinator: several lookups, ZooKeeper away, a node killed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ringway.client_sdk import AsyncClient, Client, State
from tests.harness import web
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster, LookupServer
from tests.harness.redises import Provider as Redis
from tests.harness.waiting import wait_until
from tests.harness.workers import Workers
from tests.harness.zookeepers import Stoppable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
UIDS = [f"user-{i}" for i in range(100)]
ASKS = 6  # of each lookup for each uid, and as many more as it takes until both of its workers have answered
MOST_ASKS = 100
SESSION_TIMEOUT_S = 6.0
MEDIAN_BACK_S = 2.0


def answers(lookup: LookupServer) -> dict[str, set[tuple[str, int, int]]]:
    """(node, gen, epoch) that a lookup's two workers give for each uid, over several requests on new connections."""
    seen: dict[str, set[tuple[str, int, int]]] = {uid: set() for uid in UIDS}
    workers = Workers(lookup.pid)
    for asked in range(MOST_ASKS):
        with web.client(base_url=lookup.url, timeout=10.0) as http:  # a new connection may reach another worker
            answer = http.post("/routes", json={"uids": UIDS}).raise_for_status()
            workers.note(answer)
        for route in answer.json()["routes"]:
            seen[route["uid"]].add((route["node"], route["gen"], route["epoch"]))
        if asked + 1 >= ASKS and len(workers.answered) == 2:
            return seen
    raise AssertionError(f"of {workers.pids} only {workers.answered} answered {MOST_ASKS} connections")


def test_two_lookups_of_two_workers_answer_alike_and_the_sdk_outlives_one(zookeeper: str, redis_url: str) -> None:
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=2, lookups=2, workers=2) as cluster:
        for nodes in (2, 3):
            first, second = (answers(lookup) for lookup in cluster.lookups)
            assert first == second
            assert {len(seen) for seen in first.values()} == {1}
            if nodes == 2:
                cluster.add_node()
        urls = [lookup.url for lookup in cluster.lookups]
        with Client(urls, "alice") as alice:
            cluster.lookups[0].kill()
            cluster.nodes[alice.node].kill()
            wait_until(lambda: alice.state is State.OPEN and cluster.nodes[alice.node].alive, 20.0)
            assert alice.send("alice", "still here").result(10.0) is not None


@pytest.fixture
def lonely(own_zookeeper: Stoppable, redis_server: Redis) -> Iterator[Cluster]:
    """A cluster whose ZooKeeper this test may stop."""
    env = {"RINGWAY_ZOOKEEPER_TIMEOUT": str(SESSION_TIMEOUT_S)}
    with Cluster(zookeeper=own_zookeeper.address, redis=redis_server.url, nodes=3, env=env) as cluster:
        yield cluster


def stale(cluster: Cluster, **params: Any) -> bool:
    return bool(cluster.route("alice", **params)["stale"])


def places(cluster: Cluster) -> dict[str, tuple[str, bool]]:
    """The node of some users, and whether the answer was stale."""
    return {uid: ((route := cluster.route(uid))["node"], route["stale"]) for uid in UIDS[:5]}


def test_zookeeper_stopped_routes_stay_as_they_were_and_nobody_is_closed(
    lonely: Cluster, own_zookeeper: Stoppable
) -> None:
    with PlainClients(lonely.url, UIDS) as crowd:
        before, routes = crowd.nodes(), places(lonely)
        assert not any(marked for _, marked in routes.values())
        own_zookeeper.stop()
        wait_until(lambda: stale(lonely), 30.0, "routes marked stale")
        away_until = time.monotonic() + 2 * SESSION_TIMEOUT_S  # longer than any session of theirs would live
        while time.monotonic() < away_until:
            assert places(lonely) == {uid: (node, True) for uid, (node, _) in routes.items()}
        assert crowd.nodes() == before
        own_zookeeper.start()
        wait_until(lambda: not stale(lonely), 30.0, "back to normal")
        lonely.add_node()
        assert not crowd.codes().keys() - {4300}
        assert {lonely.nodes[n].alive for n in ("node-1", "node-2", "node-3")} == {True}


async def returns_after_kill(cluster: Cluster, sessions: int) -> list[float]:
    """Seconds until each SDK client of a killed node has an open connection again."""
    closed: dict[str, float] = {}
    back: dict[str, float] = {}

    def watch(uid: str, state: State) -> None:
        if state is State.OPEN and uid in closed:
            back.setdefault(uid, time.monotonic() - closed[uid])

    uids = [f"u{i}" for i in range(sessions)]
    clients = [AsyncClient(cluster.url, uid, on_state=lambda s, _c, uid=uid: watch(uid, s)) for uid in uids]  # type: ignore[misc]
    try:
        for client in clients:
            await client.connect()
        victims = [client.uid for client in clients if client.node == "node-2"]
        await asyncio.to_thread(cluster.nodes["node-2"].kill)
        closed.update(dict.fromkeys(victims, time.monotonic()))
        async with asyncio.timeout(30):
            while len(back) < len(victims):
                await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    return list(back.values())


def test_a_killed_nodes_clients_are_on_the_next_node_long_before_the_session_ends(
    zookeeper: str, redis_url: str
) -> None:
    timeout_s = 20.0
    env = {"RINGWAY_ZOOKEEPER_TIMEOUT": str(timeout_s)}
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=3, env=env) as cluster:
        gone = asyncio.run(returns_after_kill(cluster, 150))
        assert len(gone) > 20
        print(f"back after a median of {statistics.median(gone):.2f} s, longest {max(gone):.2f} s")
        assert statistics.median(gone) < MEDIAN_BACK_S
        assert max(gone) < timeout_s / 2
