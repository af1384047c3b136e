"""Why a user is sent where they are sent, for `?explain=1`. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ringway.core.history import RingView
from ringway.core.ring import SPACE

from .placement import Placement


def explain(view: RingView, uid: str, placed: Placement, down: Collection[str]) -> dict[str, Any]:
    """Positions are hexadecimal texts: they have 64 bits, and numbers of JavaScript end at 53."""
    ring = view.ring
    position = ring.hashing.key(uid)
    owner, point = ring.vnode_at(position)
    index = next(i for i in range(ring.weights[owner]) if ring.hashing.point(owner, i) == point)
    return {
        "alg": ring.hashing.name,
        "hash": f"{position:016x}",
        "vnode": f"{owner}_{index}",
        "vnode_hash": f"{point:016x}",
        "distance": (point - position) % SPACE / SPACE,
        "owner": owner,
        "down": sorted(down),
        "why": _why(placed, f"{owner}_{index}"),
    }


def _why(placed: Placement, vnode: str) -> str:
    first = f"{vnode} is the first virtual node at or after the uid's hash, so {placed.owner} owns it"
    if placed.reason == "route":
        return first
    return f"{first}; {placed.owner} does not answer, and {placed.member.id} is the next node clockwise that does"
