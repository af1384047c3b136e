"""Clients that take long to make their next connection: a node that moves them keeps them until they have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from ringway.client_sdk import AsyncClient, ClientError, State
from tests.harness.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
CLIENTS = 60
BLOCKED_S = 0.3  # the same as a second each time at the usual deadline of 10 s
OPEN_TIMEOUT_S, DEADLINE_S = 1.0, 3.0


@pytest.fixture
def cluster(zookeeper: str, redis_url: str) -> Iterator[Cluster]:
    env = {"RINGWAY_MOVE_DEADLINE": f"{DEADLINE_S:g}"}
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=2, node_env=env) as running:
        yield running


class Crowd:
    """Clients whose event loop is blocked again and again, so that each step of a connection waits for its turn."""

    def __init__(self, lookup: str) -> None:
        self.cut: list[str] = []
        self.clients = [self._client(lookup, f"slow-{number}") for number in range(CLIENTS)]

    def _client(self, lookup: str, uid: str) -> AsyncClient:
        def on_state(state: State, cause: ClientError | None) -> None:
            if client.node and state not in (State.OPEN, State.MOVING, State.CLOSED):
                self.cut.append(f"{uid}: {state}, {cause}")

        client = AsyncClient(lookup, uid, on_state=on_state, open_timeout_s=OPEN_TIMEOUT_S)
        return client

    async def open(self) -> None:
        await asyncio.gather(*(client.connect() for client in self.clients))

    async def blocked_until(self, over: asyncio.Task[object]) -> None:
        until = time.monotonic() + 40
        while time.monotonic() < until and not (over.done() and self._all_open()):
            time.sleep(BLOCKED_S)
            await asyncio.sleep(0)

    def _all_open(self) -> bool:
        return all(client.state is State.OPEN for client in self.clients)

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))


def test_a_drain_cuts_off_nobody_whose_process_is_blocked_again_and_again(cluster: Cluster) -> None:
    async def drain() -> Crowd:
        crowd = Crowd(cluster.url)
        try:
            await crowd.open()
            assert {client.node for client in crowd.clients} == {"node-1", "node-2"}
            cluster.nodes["node-1"].terminate()
            await crowd.blocked_until(asyncio.create_task(asyncio.to_thread(cluster.nodes["node-1"].wait_exit, 60.0)))
            assert {client.node for client in crowd.clients} == {"node-2"}
        finally:
            await crowd.close()
        return crowd

    assert asyncio.run(drain()).cut == []
