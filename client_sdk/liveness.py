"""Is the node still there? Pure.

Browsers do not show a page the WebSocket pings, so both SDKs meet silence with a `ping` frame.
"""

from __future__ import annotations

PONG_S = 10.0  # how long after a ping a silent node counts as gone
DEFAULT_PING_S = 25.0


class Liveness:
    """Watches one connection. Times in seconds of any steady clock."""

    __slots__ = ("_asked", "_heard", "_ping_s")

    def __init__(self, ping_s: float, now: float) -> None:
        """Args: ping_s: what welcome said; nothing heard for so long is worth a ping."""
        self._ping_s = ping_s if ping_s > 0 else DEFAULT_PING_S
        self._heard, self._asked = now, False

    def heard(self, now: float) -> None:
        """Anything came in."""
        self._heard, self._asked = now, False

    def ping_due(self, now: float) -> bool:
        """Whether to write a `ping` now; true once for each silence."""
        if self._asked or now - self._heard < self._ping_s:
            return False
        self._asked = True
        return True

    def dead(self, now: float) -> bool:
        """Whether nothing came for ping_s + 10 s."""
        return now - self._heard >= self._ping_s + PONG_S

    def next_s(self, now: float) -> float:
        """Seconds until it is worth looking again."""
        limit = self._ping_s + PONG_S if self._asked else self._ping_s
        return max(0.0, self._heard + limit - now)
