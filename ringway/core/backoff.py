"""How long to wait before trying again. Randomness comes in, so that a test can fix it."""

from __future__ import annotations

from collections.abc import Callable

BASE_S = 0.5
CAP_S = 20.0


def full_jitter(attempt: int, random: Callable[[], float], *, base_s: float = BASE_S, cap_s: float = CAP_S) -> float:
    """Seconds to wait before attempt number `attempt` (1 is the first try after a failure).

    min(cap, base + rand(0, base * 2**attempt)): never below base, so a crowd does not hammer; spread over the whole
    window, so it does not come back as one (AWS Architecture Blog, "Exponential Backoff And Jitter"; centrifuge-js).
    """
    window = min(cap_s, base_s * 2.0 ** min(attempt, 32))
    return min(cap_s, base_s + random() * window)


def spread(window_s: float, random: Callable[[], float]) -> float:
    """Seconds to wait when the other side asks a crowd to spread its return over a window."""
    return random() * max(0.0, window_s)
