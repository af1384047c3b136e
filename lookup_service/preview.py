"""What adding, removing or re-weighting nodes would move. Pure: the ring is a function of its members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ringway.core.history import Change, RingView
from ringway.core.ring import SPACE, Arc, Ring, moved_arcs


class Wanted(NamedTuple):
    """Node ids to add (or to re-weight, where they are members) with `vnodes` each, and ids to remove."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    vnodes: int


def preview(view: RingView, wanted: Wanted, present: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Shares before and after, and which sessions would move, exactly. A user with several sessions counts once.

    Args:
        present: the uids connected to each node now.
    """
    old = view.ring
    weights = {node: count for node, count in old.weights.items() if node not in wanted.remove}
    new = old.with_weights(weights | dict.fromkeys(wanted.add, wanted.vnodes))
    before, after = old.shares(), new.shares()
    uids = {uid for on_node in present.values() for uid in on_node}
    moves, counted = _moves(old, new, uids)
    nodes = [
        {
            "id": node,
            "vnodes": new.weights.get(node, 0),
            "share_before": before.get(node, 0.0),
            "share_after": after.get(node, 0.0),
            "sessions_before": counted[0][node],
            "sessions_after": counted[1][node],
        }
        for node in sorted(before.keys() | after.keys())
    ]
    return {
        "gen": view.version.gen,
        "epoch": view.version.epoch,
        "moved_share": moved_share(moved_arcs(old, new)),
        "sessions": len(uids),
        "sessions_moved": sum(moves.values()),
        "moves": [{"from": a, "to": b, "sessions": n} for (a, b), n in sorted(moves.items())],
        "nodes": nodes,
    }


def moved_share(arcs: Iterable[Arc]) -> float:
    """The fraction of all users whose owner changes."""
    return sum((arc.end - arc.start) % SPACE or SPACE for arc in arcs) / SPACE


UNKNOWN: dict[str, Any] = {"moved": None, "sessions_moved": None}


def moved(change: Change, sessions: Mapping[str, int]) -> dict[str, Any]:
    """What a new ring moves: the share of all users exactly, and about how many sessions.

    Args:
        sessions: how many each node of the old ring has; where one has not said so, the number is not known.
    """
    if change.old is None:
        return UNKNOWN
    shares = change.old.ring.shares()
    known = all(node in sessions for node in shares)
    leaving: Counter[str] = Counter()
    for arc in change.arcs:
        leaving[arc.old] += (arc.end - arc.start) % SPACE or SPACE
    about = sum(sessions[node] * width / SPACE / shares[node] for node, width in leaving.items()) if known else None
    return {"moved": moved_share(change.arcs), "sessions_moved": None if about is None else round(about)}


def _moves(
    old: Ring, new: Ring, uids: Iterable[str]
) -> tuple[Counter[tuple[str, str]], tuple[Counter[str], Counter[str]]]:
    """How many go from where to where; how many each node has before and after."""
    moves: Counter[tuple[str, str]] = Counter()
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for uid in uids:
        position = old.hashing.key(uid)
        source, target = old.owner_at(position), new.owner_at(position)
        before[source] += 1
        after[target] += 1
        if source != target:
            moves[source, target] += 1
    return moves, (before, after)
