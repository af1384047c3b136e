"""Which node a user is sent to: the owner, unless it is marked as unreachable. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ringway.core.members import Member

from .rings import CANDIDATES, Current


class Placement(NamedTuple):
    """`candidates` are the next distinct nodes clockwise, the owner first.

    `crowd_part`: for one of the crowd whose owners are marked, the part of it that goes to its busiest node.
    """

    member: Member
    reason: str
    candidates: tuple[str, ...]
    crowd_part: float | None = None

    @property
    def owner(self) -> str:
        return self.candidates[0]


def place(current: Current, uid: str, down: frozenset[str] = frozenset()) -> Placement:
    """The owner, or the first node clockwise that is not in `down`, who is also the next owner once the owner has left.

    Where every node is marked the owner is the answer: a lookup that reaches none may be the one that is cut off.
    """
    candidates = current.candidates(uid)
    owner, members = candidates[0], current.view.members
    if owner not in down:
        return Placement(members[owner], "route", candidates)
    heirs = current.view.ring.preference(uid, CANDIDATES + len(down))
    chosen = next((node for node in heirs if node not in down), owner)
    if chosen == owner:
        return Placement(members[owner], "route", candidates)
    part = current.busiest_heir(down)  # 1: one node takes all of them, and its own queue is the crowd's
    return Placement(members[chosen], "softdown", candidates, part if part < 1.0 else None)
