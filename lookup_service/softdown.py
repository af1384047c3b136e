"""Nodes that clients cannot reach although ZooKeeper still lists them.

A node that was killed stays listed until its session times out, 10 s. Its clients are back sooner: they say
`avoid=<node>`, the lookup probes the node, and where two probes fail it is marked for 10 s, here and in Redis for the
other lookups. Marked nodes are passed over; a mark never changes the ring.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Protocol

from ringway.core.errors import Unavailable
from ringway.core.members import Member, State

log = logging.getLogger(__name__)

Probe = Callable[[Member], bool]


@dataclass(frozen=True, slots=True)
class SoftDownOptions:
    """What decides how soon, and for how long, a node is passed over: docs/operations.md, with the guards.

    Attributes:
        ttl_s: how long a mark lasts where nobody finds the node alive.
        probes: failed probes in a row that make a node dead.
        alive_s: for so long after an answer a node is not asked again.
    """

    ttl_s: float = field(default=10.0, metadata={"least": 1})
    probes: int = field(default=2, metadata={"least": 1})
    alive_s: float = 1.0


class Marks(Protocol):
    """Where marks are shared between lookups, and the placements that they caused are noted (Redis)."""

    def mark(self, node: str, ttl_s: float) -> None: ...
    def unmark(self, node: str) -> None: ...
    def marked(self) -> Iterable[str]: ...
    def away(self, uid: str, node: str) -> None: ...


class SoftDown:
    """Which nodes to pass over. `down` is read by every request without a lock; it is replaced, never edited."""

    def __init__(
        self, probe: Probe, marks: Marks, options: SoftDownOptions | None = None, *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._options = options or SoftDownOptions()
        self._probe, self._marks, self._clock = probe, marks, clock
        self._lock = threading.Lock()
        self._probing: set[str] = set()
        self._alive_at: dict[str, float] = {}
        self._own: dict[str, float] = {}  # until when
        self._shared: frozenset[str] = frozenset()
        self.on_verdict: list[Callable[[str, bool], None]] = []
        self.down: frozenset[str] = frozenset()

    def suspect(self, member: Member) -> bool:
        """A client could not reach this node. Returns whether to pass the node over for this client.

        One probe runs per node at a time, and a node that has just answered is not asked again, so clients cannot make
        the lookup flood a node. Who comes while the node is being probed is sent past it without waiting: a dead node's
        clients all come at once. If it turns out to be alive after all, their sessions are sent home.
        """
        with self._lock:
            if member.id in self.down or member.id in self._probing:
                return True
            if self._clock() - self._alive_at.get(member.id, float("-inf")) < self._options.alive_s:
                return False
            self._probing.add(member.id)
        try:
            return not self._answers(member)
        finally:
            with self._lock:
                self._probing.discard(member.id)

    def placed(self, uid: str, node: str) -> None:
        """Note that `uid` was sent to `node`, which does not own it, so that messages are forwarded there."""
        self._marks.away(uid, node)

    def sync(self, members: Iterable[Member]) -> None:
        """Learn the other lookups' marks, drop those that ended, and look again at the nodes marked from here.

        Called once a second. Raises Unavailable where the marks cannot be read; then only the own ones count.
        """
        listed = {member.id: member for member in members}
        active = {member.id for member in listed.values() if member.state is State.ACTIVE}
        for node, until in list(self._own.items()):
            if node not in listed or until <= self._clock():
                self._own.pop(node, None)
            elif self._probe(listed[node]):  # where it is now: it may have come up again at another address
                self._recovered(node)
        try:
            self._shared = frozenset(self._marks.marked())
        except Unavailable:
            self._shared = frozenset()
            raise
        finally:
            self._replace(listed.keys(), active)

    def _answers(self, member: Member) -> bool:
        """Whether one of so many probes finds it alive; otherwise it is marked."""
        alive = any(self._probe(member) for _ in range(self._options.probes))
        if alive:
            self._alive_at[member.id] = self._clock()
        else:
            self._mark(member)
        for call in self.on_verdict:
            call(member.id, alive)
        return alive

    def _mark(self, member: Member) -> None:
        ttl_s = self._options.ttl_s
        log.warning("node %s does not answer at %s: passed over for %g s", member.id, member.http, ttl_s)
        with self._lock:
            self._own[member.id] = self._clock() + ttl_s
            self.down = self.down | {member.id}
        try:
            self._marks.mark(member.id, ttl_s)
        except Unavailable as error:
            log.warning("the other lookups do not learn that %s is down: %s", member.id, error)

    def _recovered(self, node: str) -> None:
        log.info("node %s answers again", node)
        self._own.pop(node, None)
        self._alive_at[node] = self._clock()
        self._marks.unmark(node)

    def _replace(self, listed: Set[str], active: set[str]) -> None:
        """All marks count, unless they name every node: a lookup that is cut off from the nodes marks them all, and
        then each lookup goes by what it found itself."""
        with self._lock:
            marked = self._own.keys() | self._shared
            self.down = frozenset((self._own.keys() if active <= marked else marked) & listed)
