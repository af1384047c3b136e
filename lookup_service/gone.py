"""Nodes that have left the ring, as they were: the doctor asks them whether they live all the same."""

from __future__ import annotations

from collections.abc import Sequence

from ringway.core.history import Change
from ringway.core.members import Member

KEPT = 64


class Gone:
    """The last of them since this process started; who is back on the ring is not among them."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def heed(self, change: Change) -> None:
        """Replaced, not edited: others read it meanwhile."""
        left = self._members | (dict(change.old.members) if change.old else {})
        away = {node: member for node, member in left.items() if change.new.member(node) is None}
        self._members = dict(list(away.items())[-KEPT:])

    @property
    def members(self) -> Sequence[Member]:
        return list(self._members.values())
