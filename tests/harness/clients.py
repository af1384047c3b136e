"""Many plain WebSocket clients in one process: no SDK, so that what they see is the protocol's doing alone.

Each resolves, opens, notes every frame's kind and every close, and after a close does what section 6 of the protocol
asks of a client without an SDK. They run in a thread of their own; tests ask from theirs.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ringway.core.close_codes import Action, action_for, parse_reason
from tests.harness.waiting import wait_until

OPEN_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A welcome. `at` is time.monotonic()."""

    node: str
    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a connection: 1006 if it broke or never opened."""

    code: int
    reason: str
    at: float


@dataclass(eq=False)
class PlainClient:
    """One user. Read the lists from any thread; they only grow."""

    uid: str
    ws: ClientConnection | None = None
    opened: list[Opened] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    frames: list[dict[str, Any]] = field(default_factory=list)

    @property
    def node(self) -> str | None:
        """The node it is open on; None while it is not."""
        return self.opened[-1].node if self.ws is not None else None

    @property
    def reconnects(self) -> int:
        return max(0, len(self.opened) - 1)

    @property
    def gap_s(self) -> float:
        """The longest time between a close and the next welcome."""
        pairs = zip(self.closed, self.opened[1:], strict=False)
        return max((after.at - before.at for before, after in pairs), default=0.0)


class PlainClients:
    """A context manager: inside, all are open (or `__enter__` raises).

    Args:
        lookups: URLs; each client asks them in turn, from a random one.
        uids: one client each.
        at_once: handshakes under way at a time.
        keep_frames: remember whole frames, not only their kinds.
        reconnect: come back after a close.
        query: added to each node URL, such as "inbox=g:0".
    """

    def __init__(
        self, lookups: str | Sequence[str], uids: Iterable[str], *, at_once: int = 50, keep_frames: bool = False,
        reconnect: bool = True, timeout_s: float = 60.0, query: str = "",
    ) -> None:
        self.lookups = [lookups] if isinstance(lookups, str) else list(lookups)
        self.clients = {uid: PlainClient(uid) for uid in uids}
        self._at_once, self._keep_frames, self._reconnect, self._query = at_once, keep_frames, reconnect, query
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plain clients", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._start())
            self.wait_open(self._timeout_s)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(self._timeout_s)

    # What tests ask.

    def __getitem__(self, uid: str) -> PlainClient:
        return self.clients[uid]

    def __iter__(self) -> Iterator[PlainClient]:
        return iter(self.clients.values())

    def wait_open(self, timeout_s: float = 30.0) -> None:
        """Until every client is open."""
        wait_until(lambda: not self.not_open(), timeout_s, "all plain clients open")

    def not_open(self) -> list[str]:
        return [client.uid for client in self.clients.values() if client.node is None]

    def nodes(self) -> dict[str, str | None]:
        """uid -> node it is open on."""
        return {client.uid: client.node for client in self.clients.values()}

    def closed(self) -> set[str]:
        """uids that were closed at least once."""
        return {client.uid for client in self.clients.values() if client.closed}

    def codes(self) -> Counter[int]:
        """How often each close code came."""
        return Counter(close.code for client in self.clients.values() for close in client.closed)

    def told_to_move(self) -> set[str]:
        """uids that had a `move` frame."""
        return {client.uid for client in self.clients.values() if client.kinds["move"]}

    def reconnects(self) -> Counter[int]:
        """How many clients reconnected how often."""
        return Counter(client.reconnects for client in self.clients.values())

    def wait_for(self, predicate: Callable[[PlainClient], bool], timeout_s: float = 10.0) -> None:
        """Until it holds for every client."""
        wait_until(lambda: all(map(predicate, self.clients.values())), timeout_s)

    def send(self, uid: str, frame: dict[str, Any] | str | bytes) -> None:
        """One frame, as JSON, text or binary."""
        ws = self.clients[uid].ws
        assert ws is not None, f"{uid} is not open"
        self._call(ws.send(json.dumps(frame) if isinstance(frame, dict) else frame))

    def drop(self, uid: str) -> None:
        """Break the client's own connection."""
        ws = self.clients[uid].ws
        if ws is not None:
            self._loop.call_soon_threadsafe(ws.transport.abort)

    # In the loop.

    async def _start(self) -> None:
        self._turn = asyncio.Semaphore(self._at_once)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10),
                                           connector=aiohttp.TCPConnector(limit=self._at_once))
        self._tasks = [self._loop.create_task(self._live(client)) for client in self.clients.values()]

    async def _stop(self) -> None:
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _live(self, client: PlainClient) -> None:
        failures = 0
        while True:
            opens = len(client.opened)
            delay_s = await self._route_and_stay(client)
            if delay_s is None or not self._reconnect:
                return
            failures = 0 if len(client.opened) > opens else failures + 1
            await asyncio.sleep(delay_s + (0.1 * 2 ** min(failures, 5) * random.random() if failures else 0))

    async def _route_and_stay(self, client: PlainClient) -> float | None:
        """One connection. Returns seconds to wait before the next one, None for never."""
        code, reason = 1006, ""
        try:
            async with self._turn:
                url, retry_after_s = await self._route(client.uid)
                if url is None:
                    return retry_after_s
                ws = await self._open(client, url)
            try:
                async for text in ws:
                    self._note(client, text)
            finally:
                client.ws = None
                ws.transport.abort()
            code, reason = ws.close_code or 1006, ws.close_reason or ""
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, str(error))
        except (OSError, TimeoutError, WebSocketException) as error:
            reason = repr(error)
        client.closed.append(Closed(code, reason, time.monotonic()))
        match action_for(code):
            case Action.STOP:
                return None
            case Action.RE_ROUTE:
                return random.random() * parse_reason(reason).spread_ms / 1000
        return 0.3 + 0.7 * random.random()

    async def _route(self, uid: str) -> tuple[str | None, float]:
        start, retry_after_s = random.randrange(len(self.lookups)), 0.0
        for lookup in self.lookups[start:] + self.lookups[:start]:
            try:
                async with self._http.get(f"{lookup}/route", params={"uid": uid}) as answer:
                    if answer.status == 200:
                        route = await answer.json()
                        await asyncio.sleep(route.get("connect_after_ms", 0) / 1000)
                        return route["url"], 0.0
                    retry_after_s = float(answer.headers.get("Retry-After", 0))
            except (aiohttp.ClientError, TimeoutError):
                continue
        return None, retry_after_s + 0.2 + 0.3 * random.random()

    async def _open(self, client: PlainClient, url: str) -> ClientConnection:
        """Until the welcome."""
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            ws = await connect(f"{url}&{self._query}" if self._query else url, compression=None, ping_interval=None,
                               open_timeout=None, close_timeout=2, max_queue=None, proxy=None)
            frame: dict[str, Any] = {}
            while frame.get("t") != "welcome":
                frame = self._note(client, await ws.recv())
        client.opened.append(Opened(frame["node"], frame["epoch"], time.monotonic()))
        client.ws = ws
        return ws

    def _note(self, client: PlainClient, text: str | bytes) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(text)
        client.kinds[frame["t"]] += 1
        if self._keep_frames:
            client.frames.append(frame)
        return frame
