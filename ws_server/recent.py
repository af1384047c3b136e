"""Rings of the last minutes, for finding users who have not followed every change yet. Pure.

Two rings are not enough: in a rolling restart a ring lives for seconds, and a user who waits to be told (moves are
paced, and pause while the ring changes fast) may be on the owner of three rings ago.
"""

from __future__ import annotations

from collections import deque

from ringway.core.history import RingView

RECENT_S = 300.0  # so long after a ring change users may still be on the previous owner
KEPT = 8


class RecentRings:
    """Rings that have been replaced. Times in seconds of any steady clock."""

    def __init__(self) -> None:
        self._replaced: deque[tuple[float, RingView]] = deque(maxlen=KEPT)

    def replaced(self, view: RingView, now: float) -> None:
        """The ring goes out of use now."""
        self._replaced.append((now, view))

    def owners(self, uid: str, now: float) -> set[str]:
        """Who owned the uid in the rings that were in use within RECENT_S."""
        while self._replaced and now - self._replaced[0][0] >= RECENT_S:
            self._replaced.popleft()
        return {view.ring.owner(uid) for _, view in self._replaced if len(view.ring)}
