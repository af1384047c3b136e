"""Items by ring position, for asking which of them lie in the arcs that moved.

Positions are spread evenly (they are hashes), so buckets by their leading bits stay even too: adding and removing cost
O(1), and a query touches the buckets under its arcs instead of every session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from .ring import SPACE, Arc

T = TypeVar("T")
BUCKET_BITS = 12
_SHIFT = 64 - BUCKET_BITS


class SessionIndex(Generic[T]):
    """A multimap from position (0..2**64-1) to item."""

    __slots__ = ("_buckets", "_size")

    def __init__(self) -> None:
        self._buckets: list[dict[T, int] | None] = [None] * (1 << BUCKET_BITS)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, position: int, item: T) -> None:
        """Add an item; an item is held once."""
        bucket = self._buckets[position >> _SHIFT]
        if bucket is None:
            bucket = self._buckets[position >> _SHIFT] = {}
        self._size += item not in bucket
        bucket[item] = position

    def remove(self, position: int, item: T) -> None:
        """Remove an item; one that is not there is no error."""
        bucket = self._buckets[position >> _SHIFT]
        if bucket is not None and bucket.pop(item, None) is not None:
            self._size -= 1
            if not bucket:
                self._buckets[position >> _SHIFT] = None

    def in_arcs(self, arcs: Iterable[Arc]) -> list[T]:
        """The items whose position lies in one of the arcs, each once if the arcs do not overlap."""
        found: list[T] = []
        for arc in arcs:
            for start, end in _spans(arc):
                self._collect(start, end, found)
        return found

    def _collect(self, start: int, end: int, found: list[T]) -> None:
        """Append the items with start <= position < end."""
        first, last = start >> _SHIFT, (end - 1) >> _SHIFT
        for number in range(first, last + 1):
            bucket = self._buckets[number]
            if not bucket:
                continue
            if first < number < last:
                found += bucket
            else:
                found += [item for item, position in bucket.items() if start <= position < end]


def _spans(arc: Arc) -> Iterator[tuple[int, int]]:
    """The arc as half-open spans [start, end) that do not wrap."""
    if arc.start < arc.end:
        yield arc.start + 1, arc.end + 1
        return
    if arc.start + 1 < SPACE:
        yield arc.start + 1, SPACE
    yield 0, arc.end + 1
