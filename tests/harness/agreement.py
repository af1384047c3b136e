"""Do all parts of a cluster go by the same ring, how soon, and were routes answered all the while?"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import httpx

from tests.harness import web
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until

ASK_EVERY_S = 0.05
Ring = tuple[int, int, str]  # gen, epoch, checksum
NOTHING: Ring = (0, 0, "")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a part goes by; `stale` while it cannot reach ZooKeeper, `state` of a node."""

    ring: Ring
    stale: bool
    state: str = ""


def seen(cluster: Cluster) -> dict[str, Seen]:
    """By name of each part that is not dead, what it says. Raises httpx.HTTPError where one does not answer."""
    found = {}
    with web.client(timeout=2.0) as http:
        for lookup in list(cluster.lookups):  # others may be started meanwhile
            if lookup.alive:
                found[lookup.url] = _read(http, f"{lookup.url}/ring")
        for node in list(cluster.nodes.values()):
            if node.alive:
                found[node.id] = _read(http, f"{node.http}/readyz")
    return found


def _read(http: httpx.Client, url: str) -> Seen:
    said = http.get(url).json()
    if "epoch" not in said:
        return Seen(NOTHING, True)
    return Seen((said["gen"], said["epoch"], said["checksum"]), bool(said["stale"]), said.get("state", ""))


def agreed(cluster: Cluster) -> Ring | None:
    """The ring that every live part goes by, none of them stale; None while they differ."""
    return _one_ring(seen(cluster))


def settled(cluster: Cluster) -> Ring | None:
    """As `agreed`, and that ring has exactly the nodes that say they are active."""
    parts, document = seen(cluster), cluster.ring()
    ring = _one_ring(parts)
    if ring is None or ring[:2] != (document["gen"], document["epoch"]):
        return None
    members = {member["id"] for member in document["members"] if member["state"] == "active"}
    return ring if members == {name for name, part in parts.items() if part.state == "active"} else None


def _one_ring(parts: Mapping[str, Seen]) -> Ring | None:
    rings = {part.ring for part in parts.values()}
    stale = any(part.stale for part in parts.values())
    return rings.pop() if len(rings) == 1 and not stale and NOTHING not in rings else None


def wait_agreed(cluster: Cluster, timeout_s: float = 30.0) -> tuple[Ring, float]:
    """The ring that all came to agree on, and how many seconds that took."""
    since = time.monotonic()
    ring = wait_until(lambda: agreed(cluster), timeout_s, "all parts at one ring", ignore=(httpx.HTTPError,))
    assert ring is not None
    return ring, time.monotonic() - since


@dataclass
class Asked:
    """One lookup's answers to a prober."""

    answers: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)  # when, monotonic, and what
    backwards: list[str] = field(default_factory=list)
    stale: list[float] = field(default_factory=list)  # when an answer said so, monotonic
    fresh: list[float] = field(default_factory=list)
    slowest_s: float = 0.0
    epochs: Counter[int] = field(default_factory=Counter)
    last: tuple[int, int] = (0, 0)

    def take(self, answer: httpx.Response, took_s: float) -> None:
        self.answers += 1
        self.slowest_s = max(self.slowest_s, took_s)
        if answer.status_code != 200:
            self.failures.append((time.monotonic(), f"{answer.status_code} {answer.text[:200]}"))
            return
        said = answer.json()
        (self.stale if said["stale"] else self.fresh).append(time.monotonic())
        version = (said["gen"], said["epoch"])
        self.epochs[said["epoch"]] += 1
        if version < self.last:
            self.backwards.append(f"{self.last} -> {version}")
        self.last = max(self.last, version)


class Prober:
    """Asks each of these lookups for a route every 50 ms, in a thread each, while the context lasts."""

    def __init__(self, urls: Sequence[str], *, every_s: float = ASK_EVERY_S) -> None:
        self.asked = {url: Asked() for url in urls}
        self._every_s = every_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,), name=f"prober {url}") for url in urls]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[str]:
        """Refusals, time-outs and answers from an older ring than the one before."""
        wrong = [(url, what) for url, asked in self.asked.items() for _, what in asked.failures]
        wrong += [(url, f"went back: {what}") for url, asked in self.asked.items() for what in asked.backwards]
        return [f"{url}: {what}" for url, what in wrong]

    @property
    def answers(self) -> int:
        return sum(asked.answers for asked in self.asked.values())

    def _ask(self, url: str) -> None:
        asked, number = self.asked[url], 0
        with httpx.Client(base_url=url, timeout=5.0) as http:
            while not self._over.wait(self._every_s):
                number += 1
                since = time.monotonic()
                try:
                    answer = http.get("/route", params={"uid": f"prober-{number % 97}"})
                except httpx.HTTPError as error:
                    asked.failures.append((time.monotonic(), repr(error)))
                    continue
                asked.take(answer, time.monotonic() - since)
