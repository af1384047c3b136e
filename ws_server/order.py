"""Which of a session's messages must not go before another. Pure.

A message that was refused for the time being (Redis is away) will be sent again by its client. What the same session
sent to the same channel after it, and what is on its way already, is refused as well until the first one has come
again: else it would overtake it in the log. A client that gives the message up may go on after `PATIENCE_S`, or in
another session.
"""

from __future__ import annotations

from typing import NamedTuple

PATIENCE_S = 45.0  # longer than a connection without pongs is kept: what comes later was not on its way before


class _First(NamedTuple):
    """The earliest message that was refused: its place in the order of arrival, its id, and when it was refused."""

    number: int
    id: str
    at: float


class Order:
    """What each session owes to each channel. Costs nothing while nothing was refused.

    Messages are numbered in the order in which they came in. `now` is monotonic seconds, and never goes back.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._firsts: dict[tuple[str, str], _First] = {}  # in the order of their times

    def __len__(self) -> int:
        return len(self._firsts)

    def admits(self, sid: str, ch: str, number: int, id: str, now: float) -> bool:
        """Whether the message may be appended now. The one that is waited for makes way for those behind it."""
        first = self._firsts.get((sid, ch))
        if first is None or number < first.number:
            return True
        if id != first.id and now - first.at <= self._patience_s:
            return False
        del self._firsts[sid, ch]
        return True

    def refused(self, sid: str, ch: str, number: int, id: str, now: float) -> None:
        """The message was refused, and its client told to send it again."""
        first = self._firsts.get((sid, ch))
        if first is None or number < first.number:
            self._firsts.pop((sid, ch), None)
            self._firsts[sid, ch] = _First(number, id, now)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._firsts and now - next(iter(self._firsts.values())).at > self._patience_s:
            del self._firsts[next(iter(self._firsts))]
