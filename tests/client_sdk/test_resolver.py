"""Asking lookups for routes, over real sockets: what one of them does costs the requests to no other."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Iterator

import pytest

from ringway.client_sdk.events import LookupFailed, Resolve, Routed
from ringway.client_sdk.resolver import AT_ONCE, AsyncResolver
from tests.harness.fake_node import FakeCluster

ACTION = Resolve(1, 0, "", "")
HANGING = 3 * AT_ONCE + 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a lookup that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=HANGING) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_requests_to_a_lookup_never_wait_behind_one_that_hangs(silent: str) -> None:
    async def work(lookup: str) -> None:
        resolver = AsyncResolver("alice", None, 30.0, None)
        hanging = [asyncio.create_task(resolver.resolve(silent, ACTION)) for _ in range(HANGING)]
        await asyncio.sleep(0)  # all have asked for their turn
        assert isinstance(await asyncio.wait_for(resolver.resolve(lookup, ACTION), 10), Routed)
        assert not any(each.done() for each in hanging)
        for each in hanging:
            each.cancel()
        await asyncio.wait(hanging)
        await resolver.close()

    with FakeCluster() as cluster:
        asyncio.run(work(cluster.urls[0]))


def test_the_wait_for_a_turn_counts_for_the_time_out_of_a_route(silent: str) -> None:
    async def work() -> None:
        resolver = AsyncResolver("alice", None, 1.0, None)
        began = time.monotonic()
        events = await asyncio.gather(*(resolver.resolve(silent, ACTION) for _ in range(HANGING)))
        assert time.monotonic() - began < 3, "four times of waiting in a row"
        assert set(events) == {LookupFailed(1, 0, 0.0, "unreachable", "TimeoutError('no answer within 1 s')")}
        await resolver.close()

    asyncio.run(work())


def test_a_token_that_never_comes_is_a_lookup_that_failed(silent: str) -> None:
    def token() -> Awaitable[str]:
        return asyncio.get_running_loop().create_future()

    async def work() -> None:
        resolver = AsyncResolver("alice", token, 0.1, None)
        event = await asyncio.wait_for(resolver.resolve(silent, ACTION), 10)
        assert event == LookupFailed(1, 0, 0.0, "unreachable", "TimeoutError('no answer within 0.1 s')")
        await resolver.close()

    asyncio.run(work())
