"""How fast to write on a connection whose node allows only so many messages a second. Pure."""

from __future__ import annotations

from ringway.core.pacing import TokenBucket

SHARE = 0.9  # of the node's rate: its clock is not ours
BURST_S = 4.0  # a node lets 5 s of its rate come at once


class Pace:
    """Of one connection: the node begins to count with each anew. Times in seconds of any steady clock."""

    __slots__ = ("_bucket",)

    def __init__(self, rate: float | None) -> None:
        """Args: rate: messages a second, what `welcome` said; None or 0: as many as there are."""
        self._bucket = TokenBucket(rate * SHARE, max(1.0, rate * BURST_S)) if rate else None

    def take(self, now: float) -> float:
        """Seconds to wait before the next message; 0.0: it may go now, and is counted."""
        return self._bucket.take(now) if self._bucket is not None else 0.0
