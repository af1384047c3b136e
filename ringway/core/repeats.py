"""What happens again and again while something is away: said the first time, then now and then with a count. Pure."""

from __future__ import annotations

from math import inf

EVERY_S = 30.0


class Repeats:
    """One kind of event. Not for several threads at once, which only would miscount."""

    __slots__ = ("_count", "_every_s", "_said_at")

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._count, self._said_at = 0, -inf

    def again(self, now: float) -> int:
        """It has happened. How often since it was last said, if it is time to say it, else 0. `now` in seconds."""
        self._count += 1
        if now - self._said_at < self._every_s:
            return 0
        count, self._count, self._said_at = self._count, 0, now
        return count

    def over(self) -> None:
        """It is over: the next one is a first one."""
        self._count, self._said_at = 0, -inf


def times(count: int) -> str:
    """For the end of a line: nothing for one, " (30 times)" for 30."""
    return f" ({count} times)" if count > 1 else ""
