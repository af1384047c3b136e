"""Who had to move: the ring as it was published during a run, and the users whose owner it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from ringway.core.errors import RingwayError
from ringway.trust import system_trust

LOOK_EVERY_S = 0.25

Weights = Mapping[str, int]  # node id -> virtual nodes


class UnknownRing(RingwayError):
    """Owners cannot be told from the ring: it is of a keyed algorithm, or none could be read."""


def owners(weights: Weights, uids: Iterable[str]) -> dict[str, str]:
    """The owner of each user on a ring built from nothing. Pure."""
    from ringway.core.hashing import XXH64, hashing  # of ringway[server]; a run without it has no shares
    from ringway.core.ring import Ring

    ring = Ring.build(weights, hashing(XXH64))
    return {uid: ring.owner(uid) for uid in uids}


def moves(rings: Sequence[Weights], uids: Sequence[str]) -> dict[str, int]:
    """How often each user's owner changed from ring to ring, of those to whom it happened. Pure."""
    counts: dict[str, int] = {}
    before: dict[str, str] | None = None
    for weights in rings:
        after = owners(weights, uids)
        for uid in uids if before is not None else ():
            if before is not None and before[uid] != after[uid]:
                counts[uid] = counts.get(uid, 0) + 1
        before = after
    return counts


def active(document: Mapping[str, Any]) -> dict[str, int]:
    """The weights of the members that own users, from the answer of `GET /ring`."""
    return {member["id"]: member["vnodes"] for member in document["members"] if member["state"] == "active"}


class RingWatch:
    """Writes down each ring that the lookups serve, from the newest of them, while `watching` runs."""

    def __init__(self, lookups: Sequence[str]) -> None:
        self._lookups = lookups
        self._version = (0, 0)
        self.alg = ""
        self.rings: list[Weights] = []

    async def watching(self) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(timeout=2.0, verify=system_trust()) as http:
            while True:
                await self._look(http)
                await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        async with httpx.AsyncClient(timeout=2.0, verify=system_trust()) as http:
            await self._look(http)

    async def _look(self, http: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(http.get(f"{lookup}/ring") for lookup in self._lookups),
                                       return_exceptions=True)
        for answer in answers:  # a lookup may be the one that was killed
            if isinstance(answer, httpx.Response) and answer.status_code == 200:
                self.heed(answer.json())

    def heed(self, document: Mapping[str, Any]) -> None:
        """A document; one that is not newer than the last changes nothing."""
        version = (document["gen"], document["epoch"])
        if version > self._version:
            self._version, self.alg = version, document["alg"]
            weights = active(document)
            if weights and self.rings[-1:] != [weights]:
                self.rings.append(weights)

    def moves(self, uids: Sequence[str]) -> dict[str, int]:
        """As `moves`, over what was seen. Raises UnknownRing."""
        self._check()
        return moves(self.rings, uids)

    def owners(self, uids: Sequence[str]) -> dict[str, str]:
        """By the last ring. Raises UnknownRing."""
        self._check()
        return owners(self.rings[-1], uids)

    def _check(self) -> None:
        if not self.rings:
            raise UnknownRing("no lookup has shown its ring")
        if self.alg != "xxh64-v1":
            raise UnknownRing(f"owners on a ring of {self.alg} are known to its key alone")
