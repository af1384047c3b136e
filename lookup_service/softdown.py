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
from ringway.zookeeper.probe import TIMEOUT_S

from .answers import Refusal

log = logging.getLogger(__name__)

MAX_WAITING = 4
PATIENCE_S = 0.5  # of who waits for another's probes, on top of the longest that they take

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
        self._checks: dict[str, _Check] = {}
        self._alive_at: dict[str, float] = {}
        self._own: dict[str, float] = {}  # until when
        self._shared: frozenset[str] = frozenset()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self.on_verdict: list[Callable[[str, bool], None]] = []
        self.down: frozenset[str] = frozenset()

    def suspect(self, member: Member) -> bool:
        """A client could not reach this node. Returns whether it is marked as down now.

        One probe runs per node at a time; who comes meanwhile waits for its verdict, and a node that has just
        answered is not asked again, so clients cannot make the lookup flood a node.

        Raises:
            Refusal: 503 `checking_node`, where enough requests wait for that probe already.
        """
        with self._lock:
            if member.id in self.down:
                return True
            if self._clock() - self._alive_at.get(member.id, float("-inf")) < self._options.alive_s:
                return False
            check = self._checks.get(member.id)
            mine = check is None
            if check is None:
                check = self._checks[member.id] = _Check()
        if mine:
            self._run(member, check)
        else:
            self._join(member, check)
        return member.id in self.down

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

    def _run(self, member: Member, check: _Check) -> None:
        try:
            alive = any(self._probe(member) for _ in range(self._options.probes))
            if alive:
                self._alive_at[member.id] = self._clock()
            else:
                self._mark(member)
            for call in self.on_verdict:
                call(member.id, alive)
        finally:
            with self._lock:
                self._checks.pop(member.id, None)
            check.done.set()

    def _join(self, member: Member, check: _Check) -> None:
        if not self._waiting.acquire(blocking=False):
            message = f"node {member.id} is being probed; ask again after Retry-After"
            raise Refusal(503, "checking_node", message, retry_after=1.0)
        try:
            check.done.wait(self._options.probes * TIMEOUT_S + PATIENCE_S)
        finally:
            self._waiting.release()

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


class _Check:
    """A probe in flight."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = threading.Event()
