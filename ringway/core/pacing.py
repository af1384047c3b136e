"""A token bucket: at most `rate` a second on average, at most `burst` at once."""

from __future__ import annotations


class TokenBucket:
    """Pure: the caller brings the clock (seconds, monotonic)."""

    __slots__ = ("_tokens", "_updated", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        """Args: rate: tokens a second; burst: tokens held at most, and at the start."""
        self.rate, self.burst = rate, burst
        self._tokens = burst
        self._updated: float | None = None

    def take(self, now: float, n: float = 1.0) -> float:
        """Take n tokens if they are there. Returns 0.0 if taken, else the seconds until they would be."""
        self._refill(now)
        if self._tokens >= n:
            self._tokens -= n
            return 0.0
        return (n - self._tokens) / self.rate

    def available(self, now: float) -> int:
        """Whole tokens that could be taken now."""
        self._refill(now)
        return int(self._tokens)

    def _refill(self, now: float) -> None:
        if self._updated is not None and now > self._updated:
            self._tokens = min(self.burst, self._tokens + (now - self._updated) * self.rate)
        self._updated = now if self._updated is None else max(now, self._updated)
