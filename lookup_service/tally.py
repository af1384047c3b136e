"""Counting route answers cheaply: plain numbers under one lock, handed over to prometheus_client now and then.

prometheus_client keeps each value in a file that all workers add up from. Three such writes for each answer were a
third of what our own code spends on it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import Histogram


class Taken(NamedTuple):
    """`buckets[i]`: answers that took longer than bound i - 1 and no longer than bound i; the last has no bound."""

    outcomes: Counter[str]
    buckets: list[int]
    seconds: float


class RouteTally:
    """Args: bounds: upper bounds of the buckets in seconds, ascending, without the infinite one."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = list(bounds)
        self._lock = threading.Lock()
        self._empty()

    def add(self, outcome: str, seconds: float) -> None:
        """One answer."""
        bucket = bisect_left(self._bounds, seconds)
        with self._lock:
            self._outcomes[outcome] += 1
            self._buckets[bucket] += 1
            self._seconds += seconds

    def take(self) -> Taken:
        """What was added since the last call."""
        with self._lock:
            taken = Taken(self._outcomes, self._buckets, self._seconds)
            self._empty()
        return taken

    def _empty(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._buckets = [0] * (len(self._bounds) + 1)
        self._seconds = 0.0


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once, which the library has no call for."""

    def add(self, buckets: Sequence[int], seconds: float) -> None:
        """Args: buckets: observations by bucket, the one without a bound last; seconds: their sum."""
        for bucket, count in zip(self._buckets, buckets, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(seconds)
