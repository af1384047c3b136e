"""Asking lookups for routes, over real sockets: what one of them does costs the requests to no other."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from ringway.client_sdk.events import LookupFailed, Resolve, Routed
from ringway.client_sdk.resolver import AT_ONCE, AsyncResolver, Resolver, http_proxy
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


class Proxy(BaseHTTPRequestHandler):
    """Forwards GET to where the request line says, and notes it in its server's `asked`."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        answer = httpx.get(self.path, trust_env=False)
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The URLs asked through the proxy that the environment names."""
    http_proxy.cache_clear()  # a lookup of an earlier test may have had the same port
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, name="proxy").start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        try:
            yield server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            http_proxy.cache_clear()


def ask(lookup: str) -> object:
    resolver = Resolver("alice", None, 10.0, None)
    try:
        return resolver.resolve(lookup, ACTION)
    finally:
        resolver.close()


def ask_in_a_loop(lookup: str) -> object:
    async def work() -> object:
        resolver = AsyncResolver("alice", None, 10.0, None)
        try:
            return await resolver.resolve(lookup, ACTION)
        finally:
            await resolver.close()

    return asyncio.run(work())


@pytest.mark.parametrize("asking", [ask, ask_in_a_loop])
def test_the_environments_proxy_is_used_but_for_hosts_it_excepts(
    asking: Callable[[str], object], proxied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeCluster() as cluster:
        assert isinstance(asking(cluster.urls[0]), Routed)
        assert proxied == [f"{cluster.urls[0]}/route?uid=alice"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http_proxy.cache_clear()
    with FakeCluster() as cluster:
        assert isinstance(asking(cluster.urls[0]), Routed)
    assert len(proxied) == 1
