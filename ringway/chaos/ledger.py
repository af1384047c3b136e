"""The books of a run: what was sent, what arrived, where, in which order, and how long each client was away. Pure.

A durable message is owed to every reader of its channel once it was handed to a client's `send` or `publish`: the SDK
keeps it until the node's ok, so at the end of a run there is no "not yet". What a client reported as a gap is counted
as a reported gap and not as lost, where its place lies in that gap; a loss that nobody reported is the failure this
exists to find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

Place = tuple[str, int]  # gen and seq; gens of a channel sort by age as text


@dataclass(slots=True)
class Entry:
    """One message. Times in seconds of the run's clock; `accepted` is when its ok came.

    `number` counts all messages; a sender's own are numbered in the order in which they were handed to its client.
    `seq`: what its ok said; `places`: where readers got it, of which there are several when Redis lost it and it was
    put back.
    """

    ch: str
    sender: str
    sent: float
    number: int
    accepted: float | None = None
    refused: str | None = None
    deliveries: Counter[str] = field(default_factory=Counter)  # by reader
    seq: int | None = None
    places: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Hole:
    """A gap that a client reported at `at`: what came after `had` (None: the read cursor) and before `goes_on`."""

    had: Place | None
    goes_on: Place
    at: float

    def has(self, entry: Entry) -> bool:
        """Whether a message can be one of the missing. Of its ok only the number is known, not the incarnation."""
        if entry.sent > self.at:
            return False
        known = any((self.had is None or self.had < place) and place < self.goes_on for place in entry.places)
        return known or (entry.seq is not None and self._may_have(entry.seq))

    def _may_have(self, seq: int) -> bool:
        if self.had is None or self.had[0] == self.goes_on[0]:
            return (self.had is None or self.had[1] < seq) and seq < self.goes_on[1]
        return self.had[1] < seq or seq < self.goes_on[1]


@dataclass(frozen=True, slots=True)
class Disorder:
    """A reader got a message at a place of the log that is not after the one before."""

    uid: str
    ch: str
    before: tuple[str, int]
    after: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Overtaking:
    """A reader got a sender's message `late` after one that the same sender sent later to the same channel."""

    uid: str
    ch: str
    sender: str
    first: str
    late: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a client had no open connection."""

    uid: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the books say. `ok` is the promise: nothing lost, doubled or out of order, and no gap unreported."""

    sent: int
    accepted: int
    refused: Counter[str]
    unanswered: int
    owed: int
    delivered: int
    lost: Sequence[tuple[str, str]]  # (message id, reader)
    doubled: Sequence[tuple[str, str]]
    strange: int  # deliveries of messages nobody sent
    disorder: Sequence[Disorder | Overtaking]
    gaps: int
    excused: int  # owed, not delivered, in a reported gap
    outages: Sequence[Outage]
    latency_s: Mapping[str, float]  # p50, p99, max of send to delivery

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.disorder or self.strange)

    def lines(self) -> list[str]:
        """The verdict for people."""
        away = sorted(outage.seconds for outage in self.outages)
        latency = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in self.latency_s.items())
        refused = ", ".join(f"{code} {n}" for code, n in self.refused.items())
        lines = [
            f"sent {self.sent}, accepted {self.accepted}, unanswered {self.unanswered}, refused: {refused or 'none'}",
            f"owed {self.owed}, delivered {self.delivered}, send to delivery: {latency or 'nothing'}",
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.disorder)}, "
            f"strange {self.strange}, reported gaps {self.gaps} (excusing {self.excused})",
            f"outages {len(away)}" + (f": p50 {percentile(away, 50):.2f} s, p99 {percentile(away, 99):.2f} s, "
                                      f"longest {away[-1]:.2f} s" if away else ""),
            "verdict: " + ("nothing lost, doubled or out of order" if self.ok else "BROKEN PROMISE"),
        ]
        examples = [f"  lost: {message} to {uid}" for message, uid in self.lost[:5]]
        examples += [f"  doubled: {message} to {uid}" for message, uid in self.doubled[:5]]
        return lines + examples + [f"  disorder: {d}" for d in self.disorder[:5]]


def percentile(values: Sequence[float], p: int) -> float:
    """The p-th percentile (1 to 99) of at least one value."""
    return quantiles(values, n=100, method="inclusive")[p - 1] if len(values) > 1 else values[0]


class Ledger:
    """Books for one run. `readers` says who is owed the messages of a channel.

    Several processes write them: what belongs to one client comes in its order, but a delivery may be booked before
    its message was booked as sent.
    """

    def __init__(self, readers: Mapping[str, Iterable[str]]) -> None:
        self._readers = {ch: tuple(uids) for ch, uids in readers.items()}
        self._entries: dict[str, Entry] = {}
        self._early: dict[str, list[tuple[str, str, Place, float]]] = {}  # deliveries of what nobody has sent yet
        self._places: dict[tuple[str, str], Place] = {}
        self._heard: dict[tuple[str, str], list[str]] = {}  # (reader, channel) -> messages as they came
        self._disorder: list[Disorder] = []
        self._gaps: dict[tuple[str, str], list[Hole]] = {}
        self._gap_count = 0
        self._strange = 0
        self._away: dict[str, float] = {}
        self._outages: list[Outage] = []
        self._nodes: dict[str, list[str]] = {}
        self._latencies: list[float] = []
        self.causes: Counter[str] = Counter()  # of outages
        self.owing = 0  # deliveries that are owed and have not happened yet
        self.unanswered = 0  # messages that have neither their ok nor a refusal
        self.delivered_count = 0

    def next(self) -> Ledger:
        """New books for the same clients: who is away, who is where and who has read how far goes along."""
        books = Ledger(self._readers)
        books._away, books._places = dict(self._away), dict(self._places)
        books._nodes = {uid: nodes[-1:] for uid, nodes in self._nodes.items()}
        return books

    def sent(self, message: str, ch: str, sender: str, now: float) -> None:
        entry = self._entries[message] = Entry(ch, sender, now, len(self._entries))
        self.owing += len(self._readers[ch])
        self.unanswered += 1
        for uid, where, place, at in self._early.pop(message, ()):
            self._deliver(entry, uid, where, place, at)

    def accepted(self, message: str, now: float, seq: int | None = None) -> None:
        """Its ok came. `seq`: its place in the log, where the ok says it."""
        entry = self._entries[message]
        entry.accepted, entry.seq = now, seq
        self.unanswered -= 1

    def refused(self, message: str, why: str) -> None:
        """The application was told that this message will not be sent."""
        entry = self._entries[message]
        entry.refused = why
        self.unanswered -= 1
        self.owing -= sum(uid not in entry.deliveries for uid in self._readers[entry.ch])

    def delivered(self, uid: str, ch: str, place: Place, message: str, now: float) -> None:
        """A client's application got a message."""
        before = self._places.get((uid, ch))
        if before is not None and place <= before:
            self._disorder.append(Disorder(uid, ch, before, place))
        self._places[uid, ch] = place
        self._heard.setdefault((uid, ch), []).append(message)
        entry = self._entries.get(message)
        if entry is None:
            self._early.setdefault(message, []).append((uid, ch, place, now))
        else:
            self._deliver(entry, uid, ch, place, now)

    def _deliver(self, entry: Entry, uid: str, ch: str, place: Place, now: float) -> None:
        if entry.ch != ch:
            self._strange += 1
            return
        entry.deliveries[uid] += 1
        entry.places.add(place)
        self.owing -= entry.deliveries[uid] == 1 and entry.refused is None
        self.delivered_count += 1
        self._latencies.append(now - entry.sent)

    def gap(self, uid: str, ch: str, hole: Hole) -> None:
        """A client reported that messages of a channel are gone."""
        self._gaps.setdefault((uid, ch), []).append(hole)
        self._gap_count += 1

    def _excused(self, message: str, uid: str) -> bool:
        entry = self._entries[message]
        return any(hole.has(entry) for hole in self._gaps.get((uid, entry.ch), ()))

    def closed(self, uid: str, now: float, cause: str | None = None) -> None:
        """The client has no open connection from now on, and why, as far as it knows."""
        if self._away.setdefault(uid, now) == now and cause is not None:
            self.causes[cause] += 1

    def opened(self, uid: str, now: float, node: str = "") -> None:
        """The client has an open connection from now on, to that node."""
        start = self._away.pop(uid, None)
        if start is not None:
            self._outages.append(Outage(uid, start, now - start))
        nodes = self._nodes.setdefault(uid, [])
        if nodes[-1:] != [node]:
            nodes.append(node)

    @property
    def sent_count(self) -> int:
        return len(self._entries)

    @property
    def nodes(self) -> dict[str, str]:
        """Where each client is, or was last."""
        return {uid: nodes[-1] for uid, nodes in self._nodes.items()}

    def away(self) -> int:
        """How many clients have no open connection."""
        return len(self._away)

    def paths(self) -> dict[str, tuple[str, ...]]:
        """The nodes that each client has been on since these books were opened."""
        return {uid: tuple(nodes) for uid, nodes in self._nodes.items()}

    def latencies_since(self, count: int) -> list[float]:
        """Seconds from send to delivery of all deliveries but the first `count`."""
        return self._latencies[count:]

    def missing(self) -> list[tuple[str, str]]:
        """(message id, reader) of all that is owed, not refused and not delivered."""
        return [(message, uid) for message, entry in self._entries.items() if entry.refused is None
                for uid in self._readers[entry.ch] if uid not in entry.deliveries]

    def overtakings(self) -> list[Overtaking]:
        """Messages that a sender's later one overtook on the way to a reader. One that came twice counts once."""
        found = []
        for (uid, ch), messages in self._heard.items():
            last: dict[str, str] = {}
            for message in dict.fromkeys(each for each in messages if each in self._entries):
                sender, number = self._entries[message].sender, self._entries[message].number
                before = last.setdefault(sender, message)
                if number < self._entries[before].number:
                    found.append(Overtaking(uid, ch, sender, before, message))
                else:
                    last[sender] = message
        return found

    def verdict(self, now: float) -> Verdict:
        """Close the books. Who is away now has been so until now."""
        entries = self._entries.values()
        missing = self.missing()
        lost = [(m, uid) for m, uid in missing if not self._excused(m, uid)]
        kept = [e for e in entries if e.refused is None]
        still = [Outage(uid, start, now - start) for uid, start in self._away.items()]
        return Verdict(
            sent=len(self._entries),
            accepted=sum(e.accepted is not None for e in entries),
            refused=Counter(e.refused for e in entries if e.refused is not None),
            unanswered=sum(e.accepted is None for e in kept),
            owed=sum(len(self._readers[e.ch]) for e in kept),
            delivered=sum(e.deliveries.total() for e in entries),
            lost=lost,
            doubled=[(m, uid) for m, e in self._entries.items() for uid, n in e.deliveries.items() if n > 1],
            strange=self._strange + sum(map(len, self._early.values())),
            disorder=(*self._disorder, *self.overtakings()),
            gaps=self._gap_count,
            excused=len(missing) - len(lost),
            outages=(*self._outages, *still),
            latency_s=self._latency(),
        )

    def _latency(self) -> dict[str, float]:
        values = sorted(self._latencies)
        if not values:
            return {}
        return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": values[-1]}
