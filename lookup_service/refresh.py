"""Asking the sources for a newer ring: one refresh at a time, shared by every request that wants one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from ringway.core.errors import RingwayError

log = logging.getLogger(__name__)

# A source reads its copy of the ring document, within the seconds it is given, and applies it.
Source = Callable[[float], object]


class Refresher:
    """Runs the sources (ZooKeeper, then the mirror in Redis) in a thread of its own.

    Waiting is bounded: a caller waits for `budget_s` at most, and for `rest_s` after a refresh nobody starts another,
    so a crowd that asks for a ring which does not exist costs a few reads a second and holds no threads.
    """

    def __init__(self, sources: Sequence[Source], *, budget_s: float = 0.2, rest_s: float = 0.25) -> None:
        self._sources = sources
        self._budget, self._rest = budget_s, rest_s
        self._lock = threading.Lock()
        self._running: threading.Event | None = None
        self._ended = float("-inf")

    def refresh(self) -> None:
        """Return when a refresh that this call started or joined has ended, or the budget is spent."""
        with self._lock:
            running = self._running
            if running is None:
                if time.monotonic() - self._ended < self._rest:
                    return
                running = self._running = threading.Event()
                threading.Thread(target=self._run, args=(running,), name="ring-refresh", daemon=True).start()
        running.wait(self._budget)

    def _run(self, done: threading.Event) -> None:
        deadline = time.monotonic() + self._budget
        try:
            for source in self._sources:
                self._ask(source, max(0.01, deadline - time.monotonic()))
        finally:
            with self._lock:
                self._running, self._ended = None, time.monotonic()
            done.set()

    def _ask(self, source: Source, budget_s: float) -> None:
        try:
            source(budget_s)
        except RingwayError as error:
            log.info("a refresh of the ring got nothing: %s", error)
        except Exception:  # a thread's boundary: the other source must still be asked
            log.exception("a refresh of the ring failed")
