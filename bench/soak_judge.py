"""What must not happen during `bench.soak`: closes that nothing explains, refused routes, a flapping node let in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import httpx

from ringway.core.close_codes import CloseCode
from tests.harness.agreement import Prober
from tests.harness.clients import Closed, Opened, PlainClient
from tests.harness.cluster import Cluster

from .soak_faults import QUIET_S
from .soak_rig import Rig, Span

DEATH_GRACE_S = 2.0
MOVE_S = 15.0  # from a new ring, or a node's return, to the last close of those it moves: paced, and a deadline of 3 s
LOOK_EVERY_S = 0.2
PUBLISH_S = 2.0  # from a node's start until the ring is rid of it
Weights = Mapping[str, int]  # of the active members


@dataclass
class RingLog:
    """Each ring that the lookups served, and since when, in a thread of its own while the context lasts."""

    cluster: Cluster
    rings: list[tuple[float, Weights]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._version = (0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ring log")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def heed(self, document: Mapping[str, Any], now: float) -> None:
        """A document; one that is not newer than the last changes nothing."""
        version = (document["gen"], document["epoch"])
        if version > self._version:
            self._version = version
            self.rings.append((now, {m["id"]: m["vnodes"] for m in document["members"] if m["state"] == "active"}))

    def gains(self) -> list[float]:
        """When a ring came that gave a node more than it had: only such a ring moves sessions of others."""
        return [at for (_, old), (at, new) in pairwise(self.rings)
                if any(weight > old.get(node, 0) for node, weight in new.items())]  # fmt: skip

    def within(self, since: float, until: float) -> list[Weights]:
        """The rings in force at any time between the two."""
        ends = [at for at, _ in self.rings[1:]] + [float("inf")]
        return [ring for (at, ring), end in zip(self.rings, ends, strict=True) if at <= until and end >= since]

    def _look(self) -> None:
        with httpx.Client(timeout=0.5) as http:
            while not self._over.wait(LOOK_EVERY_S):
                for lookup in [each for each in self.cluster.lookups if each.alive]:
                    try:
                        answer = http.get(f"{lookup.url}/ring")
                    except httpx.HTTPError:  # the one that is struck
                        continue
                    if answer.status_code == httpx.codes.OK:
                        self.heed(answer.json(), time.monotonic())


def ends(client: PlainClient) -> Iterator[tuple[str, Closed]]:
    """(node, close) for each close of a session that was open; failed attempts to open one do not count."""
    both: list[Opened | Closed] = [*client.opened, *client.closed]
    for before, after in pairwise(sorted(both, key=lambda each: each.at)):
        if isinstance(after, Closed) and isinstance(before, Opened):
            yield before.node, after


def during(spans: Iterable[Span], name: str, at: float, grace_s: float) -> bool:
    return any(part == name and since - 0.5 <= at <= until + grace_s for part, since, until in spans)


def explained(rig: Rig, gains: Sequence[float], node: str, close: Closed) -> bool:
    """Whether a close had to be: the node died or drained, or a node came, or came back, to whom others go.

    A node that returns gets its users home although no ring changed, where its session outlived its death. The time
    that a node stood still does not count: it closes at the deadline it was to keep, when it goes on.
    """
    if close.code == CloseCode.DRAINING:
        return during(rig.drained, node, close.at, DEATH_GRACE_S)
    if close.code == CloseCode.MOVED:
        stood_s = [(until, until - since) for name, since, until in rig.frozen if name == node]
        returns = [name for name, _, _ in rig.hurt if not name.startswith("http")]
        move_s = MOVE_S + sum(seconds for until, seconds in stood_s if close.at - MOVE_S <= until <= close.at + 0.5)
        return any(gain - LOOK_EVERY_S - 1.0 <= close.at <= gain + move_s for gain in gains) or any(
            during(rig.hurt, name, close.at, move_s) for name in returns
        )
    return during(rig.hurt, node, close.at, DEATH_GRACE_S)


def wrong_closes(
    rig: Rig, gains: Sequence[float], crowd: Iterable[PlainClient], span: tuple[float, float]
) -> list[str]:
    """Args: span: from (excluded) and until when."""
    found: dict[tuple[str, int], list[Closed]] = {}
    for client in crowd:
        for node, close in ends(client):
            if span[0] < close.at <= span[1] and not explained(rig, gains, node, close):
                found.setdefault((node, close.code), []).append(close)
    last = max((gain for gain in gains if gain <= span[1]), default=0.0)
    return [f"{node} closed {len(closes)} sessions with {code}, such as {closes[0].reason[:80]}, "
            f"{closes[0].at - last:.1f} s after the last ring that gave a node more"
            for (node, code), closes in found.items()]  # fmt: skip


def wrong_answers(rig: Rig, prober: Prober, since: float) -> list[str]:
    found = []
    for url, asked in prober.asked.items():
        failed = [what for at, what in asked.failures if at >= since and not during(rig.hurt, url, at, 5.0)]
        if failed:
            found.append(f"{url} refused {len(failed)} routes: {failed[0]}")
        if asked.backwards:
            found.append(f"{url} went back: {asked.backwards}")
            asked.backwards.clear()
    return found


def let_in(log: RingLog, flapped: Sequence[tuple[str, float]]) -> list[str]:
    """Flapping nodes that the ring had before they were quiet for as long as the guard asks."""
    return [f"{node} was on the ring although it flaps" for node, at in flapped
            if any(node in ring for ring in log.within(at + PUBLISH_S, at + QUIET_S - 1.0))]  # fmt: skip
