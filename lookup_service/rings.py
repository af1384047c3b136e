"""The ring this process answers from: one reference, swapped when a newer document arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ringway.core.errors import NoActiveMember
from ringway.core.hashing import Hashing
from ringway.core.history import Change, RingHistory, RingView
from ringway.core.members import RingDocument, State, Version

CANDIDATES = 3
KEPT_CANDIDATES = 65_536  # a dozen MB; rings of up to 256 nodes of the default weight have no more points

OnChange = Callable[[Change], None]


@dataclass(frozen=True)
class Current:
    """A view, and what route answers need of it, made once per ring instead of once per request."""

    view: RingView
    _candidates: dict[int, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _busiest: dict[frozenset[str], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def candidates(self, uid: str) -> tuple[str, ...]:
        """The first nodes clockwise from the uid, its owner first. Walked once for each point of the ring."""
        ring = self.view.ring
        point = ring.point_of(uid)
        found = self._candidates.get(point)
        if found is None:
            found = ring.nodes_from(point, CANDIDATES)
            if len(self._candidates) < KEPT_CANDIDATES:
                self._candidates[point] = found
        return found

    def busiest_heir(self, down: frozenset[str]) -> float:
        """Of the users whose owners are in `down`, the part that goes to the node which takes most of them."""
        part = self._busiest.get(down)
        if part is None:
            self._busiest.clear()  # marks change rarely, and then for everybody
            part = self._busiest[down] = self._busiest_heir(down)
        return part

    def _busiest_heir(self, down: frozenset[str]) -> float:
        ring, before = self.view.ring, self.shares
        left = {node: weight for node, weight in ring.weights.items() if node not in down}
        gained = [share - before[node] for node, share in ring.with_weights(left).shares().items()]
        return max(gained) / sum(gained)

    @cached_property
    def version(self) -> Version:
        return self.view.version

    @cached_property
    def ticket_urls(self) -> Mapping[str, str]:
        """By node id: the URL up to where the ticket goes."""
        members = self.view.document.members
        return {m.id: f"{m.url}{'&' if '?' in m.url else '?'}ticket=" for m in members}

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """The fraction of all users that each node owns."""
        return self.view.ring.shares()

    @property
    def public(self) -> dict[str, Any]:
        """The document as JSON data, without its signature, which only the cluster's own parts can check."""
        document = self.view.document
        return {
            "gen": document.gen, "epoch": document.epoch, "alg": document.alg, "checksum": document.checksum,
            "members": [member.as_json() for member in document.members],
        }  # fmt: skip

    @property
    def states(self) -> Mapping[str, int]:
        """How many members are in each state; a joining node is no member yet."""
        states = [m.state for m in self.view.document.members]
        return {state.value: states.count(state) for state in (State.ACTIVE, State.DRAINING)}


class Rings:
    """Takes documents from any source (ZooKeeper, the Redis mirror); gives the newest to any thread without a lock."""

    def __init__(self, hashing: Hashing) -> None:
        self._history = RingHistory(hashing)
        self._applying = threading.Lock()
        self._on_change: list[OnChange] = []
        self.latest: Current | None = None

    def on_change(self, call: OnChange) -> None:
        """`call` gets each change, in order, in the thread that brought the document."""
        self._on_change.append(call)

    def current(self) -> Current:
        """The ring to answer from. Raises NoActiveMember where there is none yet, or none with an active member."""
        latest = self.latest
        if latest is None or not len(latest.view.ring):
            raise NoActiveMember
        return latest

    def apply(self, document: RingDocument) -> None:
        """Go on to a verified document; older and equal ones change nothing.

        Raises:
            DocumentCorrupt, ConfigError: it must not be used, and somebody has to look; see `RingHistory.apply`.
        """
        with self._applying:
            change = self._history.apply(document)
            if change is None:
                return
            self.latest = Current(change.new)
            for call in self._on_change:
                call(change)
