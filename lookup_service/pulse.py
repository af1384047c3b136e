"""Once a second: learn the others' marks, look at the nodes' figures, set the gauges."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ringway.core.errors import Unavailable

log = logging.getLogger(__name__)

PERIOD_S = 1.0
STOP_S = 1.5


class Pulse:
    """A thread that runs its tasks one after the other; one that fails does not keep the others from running."""

    def __init__(self, tasks: Sequence[Callable[[], object]]) -> None:
        self._tasks = tasks
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end, which comes soon after `stop`."""
        self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for task in self._tasks:
                self._one(task)
            self._stopping.wait(PERIOD_S)

    def _one(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Unavailable as error:
            log.debug("%s", error)
        except Exception:
            log.exception("a periodic task failed; going on")
