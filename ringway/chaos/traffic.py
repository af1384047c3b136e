"""Many SDK clients that talk to each other at a steady rate, in several processes, and one ledger of all they meet."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from typing import Any

import orjson

from ringway.core.errors import RingwayError
from ringway.operator import LookupApi

from .cast import Cast, Load
from .ledger import Hole, Ledger, Verdict
from .worker import LINE_LIMIT, load_token

log = logging.getLogger(__name__)

ANSWER_S = 30.0  # for a process to do what it was told
CLOSE_S = 15.0


class WorkerFailed(RingwayError):
    """A process of clients could not do what it was told, or ended: the run says nothing about the cluster."""


class _Part:
    """One process of clients."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def tell(self, what: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(what) + b"\n")

    async def lines(self) -> AsyncIterator[Any]:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            yield orjson.loads(line)

    async def order(self, name: str, within_s: float, **values: Any) -> None:
        """Have it do something, and wait until that is done. Raises WorkerFailed."""
        self.tell({"do": name, **values})
        try:
            answer = await asyncio.wait_for(self.answers.get(), within_s)
        except TimeoutError:
            raise WorkerFailed(f"{name} took over {within_s:g} s") from None
        if "failed" in answer:
            raise WorkerFailed(f"{answer['failed']}: {answer['why']}")


class Traffic:
    """`open()`; `talk()`, `hush()` and `settle()` as often as wanted, with new books for each; `close()`."""

    def __init__(
        self, lookups: Iterable[str], load: Load, *, token: str | None = None, api_key: str | None = None
    ) -> None:
        """Args: token: `module:callable` that gives a uid's bearer token; api_key: for groups that are permanent."""
        self.load = load
        self.lookups = list(lookups)
        self.token = load_token(token) if token is not None else None
        self._api = LookupApi(self.lookups, api_key)
        name = f"chaos-{time.time_ns():x}"
        self._job = {"name": name, "lookups": self.lookups, "load": asdict(load), "token": token}
        self.cast = Cast(load, name)
        self.ledger = Ledger(self.cast.readers())
        self._parts: list[_Part] = []
        self._listening: list[asyncio.Task[None]] = []
        self._closing = False

    async def open(self, timeout_s: float = 120.0) -> None:
        """Connect all. Raises WorkerFailed, and LookupFailed where members of a group cannot be named."""
        await asyncio.to_thread(self._change_members, "add")
        for number in range(self.load.processes):
            # A session of its own: Ctrl-C is for us, and ends the processes by the end of their stdin.
            process = await create_subprocess_exec(sys.executable, "-m", "ringway.chaos.worker", stdin=PIPE,
                                                   stdout=PIPE, limit=LINE_LIMIT, start_new_session=True)
            part = _Part(process)
            self._parts.append(part)
            self._listening.append(asyncio.create_task(self._listen(part)))
            part.tell({**self._job, "number": number})
        await self._order("open", timeout_s + ANSWER_S, timeout_s=timeout_s)
        self.new_books()  # from here on, being away is an outage

    def new_books(self) -> None:
        """From now on everything is booked anew. All that was owed must have settled before."""
        self.ledger = self.ledger.next()

    async def talk(self) -> None:
        """Begin to send at the load's rates, whatever happens to the cluster."""
        await self._order("talk", ANSWER_S)

    async def hush(self) -> None:
        """Stop sending; all that was sent is booked."""
        await self._order("hush", ANSWER_S)

    def open_now(self) -> int:
        """How many clients have an open connection."""
        return self.load.sessions - self.ledger.away()

    async def settle(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything has its ok and its readers, at most so long. Returns whether it came to that."""
        deadline = time.monotonic() + timeout_s
        while self.ledger.unanswered or self.ledger.owing or self.ledger.away():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def verdict(self) -> Verdict:
        return self.ledger.verdict(time.monotonic())

    async def close(self) -> None:
        """End all processes, those that do not answer by force."""
        self._closing = True
        for part in self._parts:
            if part.process.stdin is not None:
                part.process.stdin.close()
        waits = [asyncio.create_task(part.process.wait()) for part in self._parts]
        if waits:
            await asyncio.wait(waits, timeout=CLOSE_S)
        for part in self._parts:
            if part.process.returncode is None:
                part.process.kill()
        await asyncio.gather(*waits, *self._listening, return_exceptions=True)
        self._parts, self._listening = [], []
        try:
            await asyncio.to_thread(self._change_members, "remove")
        except RingwayError as error:
            log.warning("members of groups are left behind: %s", error)

    def _change_members(self, verb: str) -> None:
        for group, uids in self.cast.permanent.items():
            self._api.call("POST", "/members", json={"group": group, verb: uids})

    async def _order(self, name: str, within_s: float, **values: Any) -> None:
        await asyncio.gather(*(part.order(name, within_s, **values) for part in self._parts))

    async def _listen(self, part: _Part) -> None:
        async for said in part.lines():
            if isinstance(said, dict):
                part.answers.put_nowait(said)
            else:
                for event in said:
                    self._book(*event)
        if not self._closing:
            part.answers.put_nowait({"failed": "a process of clients", "why": "it ended"})

    def _book(self, what: str, *values: Any) -> None:
        books = self.ledger
        match what:
            case "delivered":
                uid, ch, (gen, seq), message, now = values
                books.delivered(uid, ch, (gen, seq), message, now)
            case "sent":
                books.sent(*values)
            case "accepted":
                books.accepted(*values)
            case "refused":
                books.refused(*values)
            case "opened":
                books.opened(*values)
            case "closed":
                books.closed(*values)
            case "gap":
                uid, ch, had, goes_on, now = values
                books.gap(uid, ch, Hole(None if had is None else (had[0], had[1]), (goes_on[0], goes_on[1]), now))
