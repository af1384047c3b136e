"""The consistent-hash ring: who owns whom, and exactly what a change moves.

A ring is immutable. Points are kept as one sorted list of 64-bit positions with a parallel list of owners; equal
positions are won by the smaller node id, so that two processes which read the members in another order agree.
Owner of a hash: the first point >= hash, wrapping (a lower bound, as in Envoy and libketama).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from .errors import NoActiveMember
from .hashing import Hashing

SPACE = 1 << 64


class Arc(NamedTuple):
    """The hashes in (start, end], going clockwise and wrapping where start >= end, went from `old` to `new`.

    start == end is the whole circle.
    """

    start: int
    end: int
    old: str
    new: str

    def contains(self, position: int) -> bool:
        if self.start < self.end:
            return self.start < position <= self.end
        return position > self.start or position <= self.end


class Ring:
    """Virtual nodes on a circle of 2**64 positions."""

    __slots__ = ("_owners", "_points", "hashing", "weights")

    def __init__(self, weights: Mapping[str, int], hashing: Hashing, points: list[int], owners: list[str]) -> None:
        """Use `build` or `with_weights`; `points` must be sorted and parallel to `owners`."""
        self.weights = dict(sorted(weights.items()))
        self.hashing = hashing
        self._points = points
        self._owners = owners

    @classmethod
    def build(cls, weights: Mapping[str, int], hashing: Hashing) -> Ring:
        """A ring from nothing. Args: weights: virtual nodes by node id."""
        pairs = _pairs(((node, range(count)) for node, count in weights.items()), hashing)
        return cls(weights, hashing, [p for p, _ in pairs], [n for _, n in pairs])

    def __len__(self) -> int:
        return len(self._points)

    def owner(self, uid: str) -> str:
        """The node id that owns the uid. Raises NoActiveMember on an empty ring."""
        return self.owner_at(self.hashing.key(uid))

    def owner_at(self, position: int) -> str:
        """The node id that owns the position. Raises NoActiveMember on an empty ring."""
        index = bisect_left(self._points, position)
        try:
            return self._owners[index]
        except IndexError:
            if self._owners:
                return self._owners[0]
            raise NoActiveMember from None

    def vnode_at(self, position: int) -> tuple[str, int]:
        """The owner and the position of the point that decides it; for `explain`. Raises NoActiveMember."""
        if not self._points:
            raise NoActiveMember
        index = bisect_left(self._points, position) % len(self._points)
        return self._owners[index], self._points[index]

    def preference(self, uid: str, n: int) -> tuple[str, ...]:
        """The first n distinct nodes clockwise from the uid; the owner is the first, its heir the second.

        Fewer where the ring has fewer. When the owner leaves, the second becomes the owner.
        """
        return self.nodes_from(self.point_of(uid), n)

    def point_of(self, uid: str) -> int:
        """The index of the point that decides the uid's owner; `len(self)` is the first one again."""
        return bisect_left(self._points, self.hashing.key(uid))

    def nodes_from(self, start: int, n: int) -> tuple[str, ...]:
        """The first n distinct nodes clockwise from a point; alike for every uid that has this `point_of`."""
        want = min(n, len(self.weights))
        found: dict[str, None] = {}
        for index in chain(range(start, len(self._points)), range(start)):
            if len(found) >= want:
                break
            found[self._owners[index]] = None
        return tuple(found)

    def shares(self) -> dict[str, float]:
        """The fraction of all positions that each node owns; the fractions add up to 1."""
        lengths = dict.fromkeys(self.weights, 0)
        previous = self._points[-1] - SPACE if self._points else 0
        for point, owner in zip(self._points, self._owners, strict=True):
            lengths[owner] += point - previous
            previous = point
        return {node: length / SPACE for node, length in lengths.items()}

    def with_weights(self, weights: Mapping[str, int]) -> Ring:
        """The ring for other weights, made from this one by its difference.

        A weight change adds or removes a node's last virtual nodes only. The lists are copied in slices between the
        changed points, so one node of 1,000 costs a few milliseconds instead of a full build.
        """
        gone, came = _difference(self.weights, weights, self.hashing)
        points, owners = self._without(gone)
        points, owners = _merged(points, owners, came)
        return Ring(weights, self.hashing, points, owners)

    def _without(self, gone: list[tuple[int, str]]) -> tuple[list[int], list[str]]:
        points: list[int] = []
        owners: list[str] = []
        start = 0
        for position, node in gone:
            index = bisect_left(self._points, position, start)
            while self._owners[index] != node:  # a collision: equal positions stand in order of node id
                index += 1
            points += self._points[start:index]
            owners += self._owners[start:index]
            start = index + 1
        points += self._points[start:]
        owners += self._owners[start:]
        return points, owners


def moved_arcs(old: Ring, new: Ring) -> list[Arc]:
    """The arcs whose owner differs between two rings of the same hashing, exactly and in order of `end`.

    An arc can change its owner only if it ends at a point that one ring has and the other lacks: if the owners of a
    hash differ, the first point >= hash of the two rings together is such a point. So the cost is that of
    the changed points, not of the ring. Rings of which one is empty have no arcs: nobody owned anything before.
    """
    if not len(old) or not len(new):
        return []
    if old.hashing.name != new.hashing.name:
        raise ValueError(f"rings of {old.hashing.name} and {new.hashing.name} cannot be compared")
    gone, came = _difference(old.weights, new.weights, old.hashing)
    arcs = []
    for end in sorted({position for position, _ in chain(gone, came)}):
        before, after = old.owner_at(end), new.owner_at(end)
        if before != after:
            # The nearest going backwards; `end` itself, met again after a whole turn, is the farthest.
            start = max(_before(old, end), _before(new, end), key=lambda p: (p - end) % SPACE)
            arcs.append(Arc(start, end, before, after))
    return arcs


def _before(ring: Ring, position: int) -> int:
    """The nearest point strictly before the position, going backwards and wrapping."""
    points = ring._points
    return points[bisect_left(points, position) - 1]


def _pairs(ranges: Iterable[tuple[str, range]], hashing: Hashing) -> list[tuple[int, str]]:
    point = hashing.point
    return sorted((point(node, i), node) for node, indexes in ranges for i in indexes)


def _difference(
    old: Mapping[str, int], new: Mapping[str, int], hashing: Hashing
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """The (position, node) pairs that `new` lacks and the ones it adds, both sorted."""

    def surplus(a: Mapping[str, int], b: Mapping[str, int]) -> Iterator[tuple[str, range]]:
        return ((node, range(b.get(node, 0), count)) for node, count in a.items() if count > b.get(node, 0))

    return _pairs(surplus(old, new), hashing), _pairs(surplus(new, old), hashing)


def _merged(points: list[int], owners: list[str], came: list[tuple[int, str]]) -> tuple[list[int], list[str]]:
    merged_points: list[int] = []
    merged_owners: list[str] = []
    start = 0
    for position, node in came:
        index = bisect_left(points, position, start)
        while index < len(points) and points[index] == position and owners[index] < node:
            index += 1
        merged_points += points[start:index]
        merged_owners += owners[start:index]
        merged_points.append(position)
        merged_owners.append(node)
        start = index
    return merged_points + points[start:], merged_owners + owners[start:]
