"""The ring that a process goes by, and what changed when it went on to it.

`RingHistory.apply` is the only door: whatever a document's source (ZooKeeper, Redis mirror, disk), older and equal ones
are ignored, so readers are monotonic however late or doubled their news arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .errors import ConfigError, DocumentCorrupt
from .hashing import Hashing
from .members import Member, RingDocument, Version
from .ring import Arc, Ring, moved_arcs


@dataclass(frozen=True)
class RingView:
    """A document and its ring."""

    document: RingDocument
    ring: Ring

    @property
    def version(self) -> Version:
        return self.document.version

    @cached_property
    def members(self) -> Mapping[str, Member]:
        return {m.id: m for m in self.document.members}

    def member(self, node_id: str) -> Member | None:
        return self.members.get(node_id)

    def owner(self, uid: str) -> Member:
        """The member that owns the uid. Raises NoActiveMember."""
        return self.members[self.ring.owner(uid)]


@dataclass(frozen=True)
class Change:
    """One step of the history. `arcs` is what changed owners; empty for the first ring."""

    old: RingView | None
    new: RingView

    @cached_property
    def arcs(self) -> list[Arc]:
        return moved_arcs(self.old.ring, self.new.ring) if self.old else []


class RingHistory:
    """The current ring. Replaced by reference: a reader never sees a half-made one."""

    def __init__(self, hashing: Hashing) -> None:
        self.hashing = hashing
        self.current: RingView | None = None

    @property
    def version(self) -> Version | None:
        return self.current.version if self.current else None

    def apply(self, document: RingDocument) -> Change | None:
        """Go on to a verified document.

        Returns:
            The change, or None where the document is older than or equal to the current one.

        Raises:
            DocumentCorrupt: the same (gen, epoch) with another checksum: two writers, which must never happen.
            ConfigError: the document was made with another algorithm or hash key than this process has.
        """
        current = self.current
        if current is not None:
            if document.version == current.version and document.checksum != current.document.checksum:
                raise DocumentCorrupt(f"two documents are numbered {document.version}: alarm the operator")
            if document.version <= current.version:
                return None
        if document.alg != self.hashing.name:
            rule = f"the cluster's ring uses {document.alg}; set RINGWAY_ALG and RINGWAY_HASH_KEY alike everywhere"
            raise ConfigError("alg", self.hashing.name, rule)
        new = RingView(document, self._ring(document.weights))
        change = Change(current, new)
        self.current = new
        return change

    def _ring(self, weights: Mapping[str, int]) -> Ring:
        base = self.current
        return base.ring.with_weights(weights) if base else Ring.build(weights, self.hashing)
