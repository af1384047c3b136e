"""Thousands of very light clients in one process, for what a crowd does to the servers: route, open, come back.

No SDK and no WebSocket library: a client is an asyncio protocol that reads as far as the welcome, about a tenth of a
millisecond each, so that two cores are left for the servers. It comes back as the protocol document asks: over a
spread of time, with `avoid`, at the moment that `connect_after_ms` gives, and after Retry-After when refused.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import resource
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from ringway.client_sdk.machine import RETRY_SPREAD_S
from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import Ring
from tests.harness.cluster import Cluster

ROUTES_AT_ONCE = 64
HANDSHAKE = ("GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def allow_files(wanted: int) -> bool:
    """Raise this process's limit of open files, and that of its children to come; False if the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted and (hard == resource.RLIM_INFINITY or hard >= wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= wanted


class Answer(asyncio.Protocol):
    """Reads HTTP answers with a Content-Length, one at a time, on a connection that stays."""

    def __init__(self) -> None:
        self._data = b""
        self._waiter: asyncio.Future[tuple[int, Mapping[str, str], bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if len(body) >= int(headers.get("content-length", 0)) and self._waiter is not None:
            self._data = b""
            self._waiter.set_result((int(lines[0].split()[1]), headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error or ConnectionResetError())

    async def get(self, host: str, path: str) -> tuple[int, Mapping[str, str], bytes]:
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return await self._waiter


@dataclass(eq=False)
class Light(asyncio.Protocol):
    """One client's connection and where it is."""

    uid: str
    crowd: Crowd
    node: str = ""
    opened_at: float | None = None
    _data: bytes = b""
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        if self.opened_at is not None:
            return
        self._data += data
        if b'"welcome"' in self._data:
            self.opened_at = time.monotonic()
            self.crowd.open += 1

    def connection_lost(self, error: Exception | None) -> None:
        was_open, self.opened_at = self.opened_at is not None, None
        self.crowd.open -= was_open
        self.crowd.lost(self)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass
class Crowd:
    """`await open_all()`, break something, watch `open`, `handshakes` and `refusals`; then `close()`.

    `slots`: (the second of the lookup's clock that a connect was put into, node) of each route; the ticket's
    `exp` tells when it was made, so a client that is slow or waits for a processor counts where it was meant to be.
    `routed`: (monotonic time, node) of each route that came; `handshakes`: of each connection attempt, at the moment
    that the client makes it; `refusals`: status -> how often;
    `improper`: answers other than 200 that were no 429 or 503 with Retry-After.
    """

    lookup: str
    uids: Iterable[str]
    open: int = 0
    slots: list[tuple[int, str]] = field(default_factory=list)
    routed: list[tuple[float, str]] = field(default_factory=list)
    handshakes: list[tuple[float, str]] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    improper: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = [Light(uid, self) for uid in self.uids]
        self._host = urlsplit(self.lookup).netloc
        self._pool: asyncio.LifoQueue[Answer | None] = asyncio.LifoQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open_all(self, timeout_s: float = 60.0) -> None:
        for _ in range(ROUTES_AT_ONCE):
            self._pool.put_nowait(None)
        for client in self.clients:
            self._spawn(client, "", 0.0)
        await self.wait_open(timeout_s)

    async def wait_open(self, timeout_s: float) -> None:
        """Until everybody is open. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.open < len(self.clients):
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for client in self.clients:
            client.drop()
        await asyncio.sleep(0.1)

    def lost(self, client: Light) -> None:
        """A connection ended or never opened: another route, without the node, after a while."""
        if not self._closing:
            delay_s = random.uniform(0.0, RETRY_SPREAD_S)  # as the SDKs
            self._spawn(client, client.node, delay_s)

    def _spawn(self, client: Light, avoid: str, delay_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(client, avoid, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Light, avoid: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        path = f"/route?uid={quote(client.uid)}" + (f"&avoid={avoid}" if avoid else "")
        while (route := await self._route(path)) is None:
            pass
        self.routed.append((time.monotonic(), route["node"]))
        wait_s = route["connect_after_ms"] / 1000
        self.slots.append((int(_made_at(route) + wait_s), route["node"]))
        await asyncio.sleep(wait_s)
        url = urlsplit(route["url"])
        client.node = route["node"]
        self.handshakes.append((time.monotonic(), client.node))
        try:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(partial(_same, client), url.hostname, url.port)
        except OSError:
            self.lost(client)
            return
        transport.write(HANDSHAKE.format(path=f"{url.path}?{url.query}", host=url.netloc).encode())

    async def _route(self, path: str) -> dict[str, Any] | None:
        """One answer; None after having waited as a refusal asked."""
        http = await self._pool.get()
        try:
            if http is None:
                host, _, port = self._host.partition(":")
                _, http = await asyncio.get_running_loop().create_connection(Answer, host, int(port))
            status, headers, body = await http.get(self._host, path)
        except OSError:
            http, status, headers, body = None, 0, {}, b"the connection broke"
        finally:
            self._pool.put_nowait(http)
        if status == 200:
            found: dict[str, Any] = json.loads(body)
            return found
        self.refusals[status] += 1
        if status not in (429, 503) or "retry-after" not in headers:
            self.improper.append((status, body[:100]))
        wait_s = float(headers.get("retry-after", 1))
        await asyncio.sleep(wait_s + random.uniform(0.0, max(1.0, wait_s)))
        return None


def _made_at(route: Mapping[str, Any]) -> int:
    payload = route["ticket"].split(".")[1]
    expires: int = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
    return expires - int(route["expires_in"])


def _same(client: Light) -> Light:
    return client


FEW = 30  # for each node: in a second with fewer, who gets twice as many is chance, and it is no load


def most_of_any_second(connects: Sequence[tuple[float, str]], nodes: int) -> float:
    """The largest multiple of its even share that a node gets in any second, wherever the second begins or ends."""
    given = sorted(connects)
    backwards = [(-moment, node) for moment, node in reversed(given)]
    return max(_most(given, nodes), _most(backwards, nodes))


def _most(given: Sequence[tuple[float, str]], nodes: int) -> float:
    """Of the seconds that end with a connect."""
    worst, late, inside = 0.0, 0, Counter[str]()
    for moment, node in given:
        inside[node] += 1
        while given[late][0] <= moment - 1.0:
            inside[given[late][1]] -= 1
            late += 1
        if inside.total() >= FEW * nodes:
            worst = max(worst, max(inside.values()) * nodes / inside.total())
    return worst


@dataclass(frozen=True)
class Return:
    """How the clients of a killed node came back. Seconds; `found_s`: from the kill to the first route past it."""

    clients: int
    nodes: int
    found_s: float
    back_s: float
    crowd: Crowd

    @property
    def after_found_s(self) -> float:
        """From the moment that the node was known to be dead until everybody was back."""
        return self.back_s - self.found_s

    @property
    def of_even_share(self) -> float:
        """What the busiest node got in any second, by the handshakes that were made."""
        return most_of_any_second(self.crowd.handshakes, self.nodes)

    def __str__(self) -> str:
        return (f"{self.clients} clients back {self.back_s:.1f} s after the kill, {self.after_found_s:.1f} s after the "
                f"node was found dead; refused {dict(self.crowd.refusals)}; handshakes of the busiest and all by "
                f"second {per_second(self.crowd.handshakes)}; at most {self.of_even_share:.2f} of an even share")


def per_second(connects: Sequence[tuple[float, str]]) -> list[tuple[int, int]]:
    """For each second from the first connect, how many the busiest node got, and how many all nodes together."""
    seconds: dict[int, Counter[str]] = {}
    start = min(at for at, _ in connects)
    for at, node in connects:
        seconds.setdefault(int(at - start), Counter())[node] += 1
    return [(max(nodes.values()), nodes.total()) for _, nodes in sorted(seconds.items())]


def uids_of(cluster: Cluster, node: str, count: int) -> list[str]:
    """So many users whose owner the node is."""
    ring = Ring.build({m["id"]: m["vnodes"] for m in cluster.ring()["members"]}, hashing(XXH64))
    return list(itertools.islice((uid for n in itertools.count() if ring.owner(uid := f"crowd-{n}") == node), count))


async def come_back(cluster: Cluster, victim: str, clients: int) -> Return:
    """Open so many clients on one node, kill it, and wait until all are on others."""
    crowd = Crowd(cluster.url, uids_of(cluster, victim, clients))
    try:
        await crowd.open_all()
        assert {client.node for client in crowd.clients} == {victim}
        assert not crowd.improper, crowd.improper[:3]
        for record in (crowd.routed, crowd.handshakes, crowd.slots):
            record.clear()
        killed = time.monotonic()
        await asyncio.to_thread(cluster.nodes[victim].kill)
        while crowd.open == clients:
            await asyncio.sleep(0.01)
        await crowd.wait_open(60.0)
        back_s, found_s = time.monotonic() - killed, min(crowd.routed)[0] - killed
        assert victim not in {client.node for client in crowd.clients}
        return Return(clients, len(cluster.nodes) - 1, found_s, back_s, crowd)
    finally:
        await crowd.close()
