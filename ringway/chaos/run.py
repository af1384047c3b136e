"""One run: open everybody, talk, strike with faults at their times, wait until all is settled, close the books."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ringway.core.errors import RingwayError

from .acks import unread
from .cast import user_of
from .ledger import Verdict, percentile
from .shares import RingWatch, UnknownRing
from .traffic import Traffic

SAMPLE_S = 0.5
SAY_EVERY_S = 5.0
FIRST, LAST = 0.1, 0.6  # faults begin within this part of the run, so that their end is seen too
HOME_S = 60.0  # for all to be on the node that owns them, after the last fault; moves are paced

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something bad, by name. `inject` blocks until the fault is over; it runs in a thread beside the traffic."""

    name: str
    inject: Callable[[], object]


class FaultFailed(RingwayError):
    """A fault's command ended with an error: the run did not test what it was to test."""


def shell_fault(name: str, command: str) -> Fault:
    """A fault that is a shell command."""

    def inject() -> None:
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise FaultFailed(f"{name}: exit code {done.returncode}: {said}")

    return Fault(name, inject)


def plan(faults: Sequence[Fault], seconds: float, seed: int) -> list[tuple[float, Fault]]:
    """When each fault begins, in seconds from the start of the traffic, in order; the same for the same seed. Pure."""
    chance = random.Random(seed)
    times = sorted(seconds * chance.uniform(FIRST, LAST) for _ in faults)
    return list(zip(times, chance.sample(list(faults), len(faults)), strict=True))


@dataclass(slots=True)
class Strike:
    """A fault that happened. Seconds from the start of the traffic."""

    name: str
    start: float
    end: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment; counts and latency are of the time since the sample before."""

    at: float
    open: int
    sent: int
    delivered: int
    unanswered: int
    owing: int
    p99_s: float


@dataclass(slots=True)
class Run:
    """What happened. `settled`: in the end all had its ok and its readers, and everybody was connected.

    `paths`: the nodes that each client was on; `share`: how often the ring gave it another owner meanwhile, of those to
    whom it did (None: that cannot be told); `causes`: of outages; `unread`: messages that the service holds for unread
    although all readers had them (None: it does not tell).
    """

    seconds: float
    verdict: Verdict
    strikes: list[Strike]
    samples: list[Sample]
    settled: bool
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    share: dict[str, int] | None = None
    causes: Counter[str] = field(default_factory=Counter)
    unread: int | None = None

    @property
    def hops(self) -> dict[str, int]:
        """How often each client changed its node."""
        return {uid: len(path) - 1 for uid, path in self.paths.items()}

    @property
    def moved(self) -> set[str]:
        """The clients that changed their node."""
        return {uid for uid, hops in self.hops.items() if hops}

    @property
    def only_the_share_moved(self) -> bool:
        """Whether exactly those moved whose owner the ring changed."""
        return self.share is not None and self.moved == set(self.share)

    @property
    def most_moves(self) -> int:
        """The most that one client had to move."""
        return max(self.hops.values(), default=0)

    def lines(self) -> list[str]:
        """The run for people."""
        causes = ", ".join(f"{cause} {n}" for cause, n in self.causes.most_common())
        detours = [f"  not for the ring: {' > '.join(path)} ({n})" for path, n in self.detours.most_common(5)]
        acks = "unread after all: " + ("the lookups do not tell" if self.unread is None else str(self.unread))
        why = [f"outages because: {causes}"] if causes else []
        return [*self.verdict.lines(), self._moves(), *detours, *why, acks]

    @property
    def detours(self) -> Counter[tuple[str, ...]]:
        """The ways of clients that moved more often than the ring had them do."""
        share = self.share or {}
        return Counter(path for uid, path in self.paths.items() if len(path) - 1 > share.get(uid, 0))

    def _moves(self) -> str:
        said = f"moved {len(self.moved)}, most moves of one {self.most_moves}"
        if self.share is None:
            return f"{said}, the ring's share is not known"
        strays, left = len(self.moved - set(self.share)), len(set(self.share) - self.moved)
        return f"{said}, the ring's share {len(self.share)} (moved without it {strays}, of it not moved {left})"

    @property
    def failed_faults(self) -> list[Strike]:
        return [strike for strike in self.strikes if strike.error]

    @property
    def ok(self) -> bool:
        return self.verdict.ok and not self.verdict.unanswered and not self.failed_faults


class Watch:
    """Samples the traffic and says how it goes."""

    def __init__(self, traffic: Traffic, say: Say) -> None:
        self._traffic, self._say = traffic, say
        self.start = self._said = time.monotonic()
        self._sent = traffic.ledger.sent_count
        self._delivered = traffic.ledger.delivered_count
        self.samples: list[Sample] = []
        self.strikes: list[Strike] = []

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def sample(self) -> None:
        books, traffic = self._traffic.ledger, self._traffic
        latencies = sorted(books.latencies_since(self._delivered))
        self.samples.append(Sample(
            self.now, traffic.open_now(), books.sent_count - self._sent, len(latencies), books.unanswered,
            books.owing, percentile(latencies, 99) if latencies else 0.0,
        ))
        self._sent, self._delivered = books.sent_count, books.delivered_count
        if time.monotonic() - self._said >= SAY_EVERY_S:
            self._said = time.monotonic()
            self._say(f"{self.now:5.0f} s  {self._line(self.samples[-1])}")

    def _line(self, sample: Sample) -> str:
        return (f"{sample.open}/{self._traffic.load.sessions} open, {self._sent} sent, {self._delivered} delivered, "
                f"{sample.unanswered} without ok, {sample.owing} owed, p99 {sample.p99_s * 1000:.0f} ms")

    async def sampling(self) -> None:
        """Until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def strike(self, at: float, fault: Fault) -> None:
        """Wait for the fault's time, inject it, write down when it was and how it went."""
        await asyncio.sleep(max(0.0, at - self.now))
        strike = Strike(fault.name, self.now)
        self.strikes.append(strike)
        self._say(f"{self.now:5.0f} s  FAULT {fault.name}")
        try:
            await asyncio.to_thread(fault.inject)
        except Exception as error:  # noqa: BLE001 - a fault is somebody's own code; the run goes on and says so
            strike.error = f"{type(error).__name__}: {error}"
        strike.end = self.now
        self._say(f"{self.now:5.0f} s  {fault.name} {f'FAILED: {strike.error}' if strike.error else 'is over'}")


async def run(
    traffic: Traffic, faults: Sequence[tuple[float, Fault]], seconds: float, *, settle_s: float = 60.0,
    say: Say = lambda line: None,
) -> Run:
    """Run open clients through `faults`; the clients stay open. Books are begun anew.

    Args:
        faults: what `plan` made.
        seconds: how long messages are sent; longer, while a fault is still going on or clients have yet to move home.
        settle_s: how long what is owed may take after that.

    Raises:
        WorkerFailed: the clients' own processes failed.
    """
    traffic.new_books()
    watch, rings = Watch(traffic, say), RingWatch(traffic.lookups)
    await rings.look()
    beside = [asyncio.create_task(watch.sampling()), asyncio.create_task(rings.watching())]
    strikes = [asyncio.create_task(watch.strike(at, fault)) for at, fault in faults]
    try:
        await traffic.talk()
        await asyncio.gather(asyncio.sleep(seconds), *strikes)
        await all_home(traffic, rings)
        await traffic.hush()
        talked_s = watch.now
        settled = await traffic.settle(settle_s)
        left = await unread(traffic.lookups, traffic.cast, traffic.token) if settled else None
    finally:
        for task in (*beside, *strikes):
            task.cancel()
        await asyncio.wait([*beside, *strikes])
    watch.sample()
    return Run(talked_s, traffic.verdict(), watch.strikes, watch.samples, settled, traffic.ledger.paths(),
               _share(rings, traffic), traffic.ledger.causes.copy(), left)


async def all_home(traffic: Traffic, rings: RingWatch) -> None:
    """Until every client is on the node that owns it by the newest ring, HOME_S at most."""
    deadline = time.monotonic() + HOME_S
    ring: int = 0
    owners: dict[str, str] | None = {}
    await rings.look()
    while time.monotonic() < deadline:
        if ring != len(rings.rings):
            ring, owners = len(rings.rings), _owners(rings, traffic)
        if owners is None or traffic.ledger.nodes == owners:
            return
        await asyncio.sleep(0.1)


def _owners(rings: RingWatch, traffic: Traffic) -> dict[str, str] | None:
    try:
        owners = rings.owners(traffic.cast.uids)
        return {client: owners[user_of(client)] for client in traffic.cast.clients}
    except (UnknownRing, ModuleNotFoundError):
        return None


def _share(rings: RingWatch, traffic: Traffic) -> dict[str, int] | None:
    try:
        moves = rings.moves(traffic.cast.uids)
        return {client: moves[user_of(client)] for client in traffic.cast.clients if user_of(client) in moves}
    except (UnknownRing, ModuleNotFoundError):
        return None
