"""When a client may connect: one moment per handshake, reserved per node.

After a node died or a deploy, thousands of clients ask for a route in the same second. Random jitter would have to
guess how wide to spread them; the lookup knows. It gives each its own slot (`connect_after_ms`), so that no node ever
gets more than its rate, and refuses with `Retry-After` only when the queue is longer than a ticket should wait.

The clients of nodes that died are one crowd. Nodes take different parts of it, so if each had only its own queue, the
one with the most would end up with all handshakes to itself, when the others' queues are empty. So the crowd as a
whole is paced to what the busiest of its nodes can take: in every second each node gets its part of the crowd, no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

CROWD_PACE = 0.9  # of what the busiest node can take: users are a sample, and its part may be some per cent larger


class ConnectSlots:
    """A leaky bucket per node (GCRA: one number each). Pure but for a lock: the caller brings the clock.

    In any T seconds a node gets at most `burst + rate * T` slots. A uid that asks again for the same node before its
    slot has passed, or within `repeat_s` of it, gets the same one, so asking often takes nothing from others.
    """

    def __init__(self, rate: float, burst: float, max_wait_s: float, repeat_s: float = 1.0) -> None:
        """Args: rate: handshakes a second and node; burst: at once; max_wait_s: the longest wait that is given."""
        self._rate, self._burst = rate, burst
        self._max_wait, self._repeat = max_wait_s, repeat_s
        self._interval, self._slack = 1.0 / rate, (burst - 1.0) / rate
        self._arrival: dict[str, float] = {}
        self._crowd_arrival = 0.0
        self._given: dict[str, tuple[str, float]] = {}
        self._given_before: dict[str, tuple[str, float]] = {}
        self._turned = 0.0
        self._lock = threading.Lock()

    def share_with(self, processes: int) -> None:
        """Take an equal part of the rate: as many lookup processes as these give out slots for the same nodes."""
        rate, burst = self._rate / processes, max(1.0, self._burst / processes)
        self._interval, self._slack = 1.0 / rate, (burst - 1.0) / rate

    def reserve(self, node: str, uid: str, now: float, crowd_part: float | None = None) -> float:
        """Seconds until the slot, 0.0 for at once; or, below zero, minus the seconds until asking again makes sense.

        Args: crowd_part: for one of the crowd, the part of it that goes to its busiest node; above 0, at most 1.
        """
        with self._lock:
            self._forget(now)
            given = self._given.get(uid) or self._given_before.get(uid)
            if given is not None and given[0] == node and given[1] + self._repeat > now:
                return max(0.0, given[1] - now)
            crowd_arrival = max(now, self._crowd_arrival)
            earliest = now if crowd_part is None else max(now, crowd_arrival - self._slack)
            arrival = max(earliest, self._arrival.get(node, 0.0))
            wait = max(earliest, arrival - self._slack) - now
            if wait > self._max_wait:
                return -(wait - self._max_wait)
            self._arrival[node] = arrival + self._interval
            if crowd_part is not None:
                self._crowd_arrival = crowd_arrival + self._interval * crowd_part / CROWD_PACE
            self._given[uid] = (node, now + wait)
            return wait

    def waiting(self, now: float) -> dict[str, float]:
        """Seconds of queue by node; nodes without a queue are left out."""
        with self._lock:
            waits = {node: arrival - self._slack - now for node, arrival in self._arrival.items()}
        return {node: wait for node, wait in waits.items() if wait > 0}

    def keep_only(self, nodes: Iterable[str]) -> None:
        """Forget nodes that are no longer members."""
        wanted = set(nodes)
        with self._lock:
            self._arrival = {node: arrival for node, arrival in self._arrival.items() if node in wanted}

    def _forget(self, now: float) -> None:
        """Two generations bound the memory without ever scanning it."""
        if now - self._turned > self._max_wait + self._repeat:
            self._given_before, self._given, self._turned = self._given, {}, now
