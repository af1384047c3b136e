"""Is the node still there? Pure.

Browsers do not show a page the WebSocket pings, so both SDKs meet silence with a `ping` frame.
"""

from __future__ import annotations

PONG_S = 10.0  # how long after a ping a silent node counts as gone
DEFAULT_PING_S = 25.0


class Liveness:
    """Watches one connection. Times in seconds of any steady clock.

    Silence alone is no proof: timers of hidden browser tabs and of sleeping laptops fire late, so a node is given up
    only when a ping of ours was not answered.
    """

    __slots__ = ("_asked", "_heard", "_ping_s", "_reading")

    def __init__(self, ping_s: float, now: float) -> None:
        """Args: ping_s: what welcome said; nothing heard for so long is worth a ping."""
        self._ping_s = ping_s if ping_s > 0 else DEFAULT_PING_S
        self._heard = now
        self._asked: float | None = None
        self._reading = True

    def pause(self) -> None:
        """We do not read, perhaps for long, as the application is behind: an answer may wait, silence says nothing."""
        self._reading = False

    def resume(self, now: float) -> None:
        """We read on: something came in, or waits to be read."""
        if not self._reading:
            self._reading = True
            self.heard(now)

    def heard(self, now: float) -> None:
        """Anything came in."""
        self._heard, self._asked = now, None

    def ping_due(self, now: float) -> bool:
        """Whether to write a `ping` now; true once for each silence."""
        if not self._reading or self._asked is not None or now - self._heard < self._ping_s:
            return False
        self._asked = now
        return True

    def dead(self, now: float) -> bool:
        """Whether a ping was not answered: nothing came for ping_s + 10 s."""
        return self._reading and self._asked is not None and now - self._asked >= PONG_S

    def next_s(self, now: float) -> float:
        """Seconds until it is worth looking again."""
        if not self._reading:
            return self._ping_s
        due = self._heard + self._ping_s if self._asked is None else self._asked + PONG_S
        return max(0.0, due - now)
