"""`python -m ringway.chaos.worker`: one process of clients. Told what to do on stdin, tells what happens on stdout.

Both are JSON lines. `traffic.py` starts these processes and keeps the books; times are of `time.monotonic()`, which
processes of one machine share. The end of stdin ends the process.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from ringway.client_sdk import AsyncClient, AsyncReceipt, Gap, Message, SendBufferFull, State
from ringway.collector import spare_collector
from ringway.core.errors import ClientError, ClosedByServer, ConfigError, ConnectFailed, RingwayError

from .cast import Cast, Line, Load, Script, split, user_of

TICK_S = 0.02
TELL_EVERY_S = 0.1
OPENING_AT_ONCE = 50
TO_MANY = ">"  # ends the id of a message to several users
LINE_LIMIT = 1 << 26  # bytes of one line of JSON


class Worker:
    """The clients of one part of the cast. What they meet is collected and told every TELL_EVERY_S."""

    def __init__(self, job: dict[str, Any], tell: Callable[[Any], None]) -> None:
        """Args: job: name, number, lookups, load and token, as Traffic sends them."""
        self._tell = tell
        cast = Cast(Load(**job["load"]), job["name"])
        self._number = job["number"]
        token = load_token(job["token"]) if job["token"] else None
        asked = cast.asked()
        self.clients = {client: self._client(job["lookups"], client, asked[client], token)
                        for client in cast.part(self._number)}
        self._script = Script(cast, self._number, random.Random(f"{cast.load.seed}/{self._number}"))
        self._body = "x" * cast.load.body_bytes
        self._events: list[tuple[Any, ...]] = []
        self._receipts: dict[str, tuple[AsyncReceipt, list[str]]] = {}  # by id; with the names in the books
        self._talking: asyncio.Task[None] | None = None
        self._count = 0

    def _client(
        self, lookups: list[str], name: str, groups: list[str], token: Callable[[str], str] | None
    ) -> AsyncClient:
        uid = user_of(name)
        return AsyncClient(lookups, uid, groups=groups, token=partial(token, uid) if token else None,
                           on_message=partial(self._on_message, name), on_state=partial(self._on_state, name),
                           on_gap=partial(self._on_gap, name))

    # What the clients meet.

    def _on_message(self, client: str, message: Message) -> None:
        if message.gen is not None:
            place, name = (message.gen, message.seq), booked(message.id, message.ch)
            self._events.append(("delivered", client, message.ch, place, name, time.monotonic()))

    def _on_gap(self, client: str, gap: Gap) -> None:
        had = None if gap.had is None else tuple(gap.had)  # orjson knows no other kind of tuple
        self._events.append(("gap", client, gap.ch, had, (gap.gen, gap.oldest), time.monotonic()))

    def _on_state(self, client: str, state: State, cause: ClientError | None) -> None:
        if state in (State.OPEN, State.MOVING):
            self._events.append(("opened", client, time.monotonic(), self.clients[client].node))
        else:
            self._events.append(("closed", client, time.monotonic(), in_short(cause)))

    async def telling(self) -> None:
        """Until cancelled."""
        while True:
            await self.tell_now()
            await asyncio.sleep(TELL_EVERY_S)

    async def tell_now(self) -> None:
        now = time.monotonic()
        for message, (receipt, names) in [(m, kept) for m, kept in self._receipts.items() if kept[0].done]:
            del self._receipts[message]
            if receipt.error is None:
                seq = await receipt
                self._events += [("accepted", name, now, seq) for name in names]
            else:
                why = str(getattr(receipt.error, "code", type(receipt.error).__name__))
                self._events += [("refused", name, why) for name in names]
        events, self._events = self._events, []
        if events:
            self._tell(events)

    # What it is told to do.

    async def open(self, timeout_s: float) -> None:
        """Connect all. Raises ConnectFailed."""
        gate = asyncio.Semaphore(OPENING_AT_ONCE)

        async def one(client: AsyncClient) -> None:
            async with gate:
                await client.connect(timeout=timeout_s)

        await asyncio.gather(*map(one, self.clients.values()))
        spare_collector()  # as in a node: a crowd that comes back makes much, and keeps it

    async def talk(self) -> None:
        """Begin to send at the load's rates, whatever happens to the cluster."""
        self._talking = asyncio.create_task(self._talk())

    async def hush(self) -> None:
        """Stop sending."""
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.wait([self._talking])

    async def close(self) -> None:
        await self.hush()
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    async def _talk(self) -> None:
        last, due = time.monotonic(), [0.0, 0.0]
        while True:
            now = time.monotonic()
            to_users, to_groups = split((self._script.user_rate, self._script.group_rate), due, now - last)
            last = now
            for line in (*self._script.lines(to_users, group=False), *self._script.lines(to_groups, group=True)):
                self._send(line)
            await asyncio.sleep(TICK_S)

    def _send(self, line: Line) -> None:
        client = self.clients[line.sender]
        message = f"m{self._number}.{self._count}{TO_MANY if len(line.to) > 1 else ''}"
        try:
            if line.group:
                receipt = client.publish(line.to[0], self._body, id=message)
            else:
                receipt = client.send(line.to if len(line.to) > 1 else line.to[0], self._body, id=message)
        except SendBufferFull:
            return  # the application was told, and nothing was sent
        self._count += 1
        channels = [f"{'g' if line.group else 'u'}:{to}" for to in line.to]
        names, now = [booked(message, ch) for ch in channels], time.monotonic()
        self._receipts[message] = receipt, names
        self._events += [("sent", name, ch, line.sender, now) for name, ch in zip(names, channels, strict=True)]


def booked(message: str, ch: str) -> str:
    """A message's name in the books: one to several users is one for each of them."""
    return f"{message}{ch}" if message.endswith(TO_MANY) else message


def in_short(cause: ClientError | None) -> str | None:
    """The kind of an error, with its close code where it has one, and without names of users and nodes."""
    if isinstance(cause, ClosedByServer):
        return f"closed by the node with {cause.code}"
    if isinstance(cause, ConnectFailed):
        return "the connection broke"
    return type(cause).__name__ if cause is not None else None


def load_token(spec: str) -> Callable[[str], str]:
    """What `module:callable` names, in the working directory too. Raises ConfigError: there is no such thing."""
    module, _, name = spec.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        token: Callable[[str], str] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError("RINGWAY_TOKEN", spec, f"cannot be loaded: {error}") from error
    return token


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LINE_LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)

    def tell(what: Any) -> None:
        pipe.write(orjson.dumps(what) + b"\n")

    worker = Worker(orjson.loads(await reader.readline()), tell)
    telling = asyncio.create_task(worker.telling())
    try:
        while order := await reader.readline():
            await _carry_out(worker, orjson.loads(order), tell)
    finally:
        telling.cancel()
        await worker.close()


async def _carry_out(worker: Worker, order: dict[str, Any], tell: Callable[[Any], None]) -> None:
    name = order.pop("do")
    try:
        await getattr(worker, name)(**order)  # open, talk or hush
    except RingwayError as error:
        tell({"failed": name, "why": f"{type(error).__name__}: {error}"})
        return
    await worker.tell_now()
    tell({"done": name})


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # what clients warn of is in the books
    asyncio.run(_main())
