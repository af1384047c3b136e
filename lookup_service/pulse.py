"""Once a second: learn the others' marks, look at the nodes' figures, set the gauges."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ringway.core.errors import Unavailable

from .background import Background

log = logging.getLogger(__name__)

PERIOD_S = 1.0


class Pulse(Background):
    """A thread that runs its tasks one after the other; one that fails does not keep the others from running."""

    def __init__(self, tasks: Sequence[Callable[[], object]]) -> None:
        super().__init__("pulse")
        self._tasks = tasks

    def run(self) -> None:
        while not self.stopping.is_set():
            for task in self._tasks:
                self._one(task)
            self.stopping.wait(PERIOD_S)

    def _one(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Unavailable as error:
            log.debug("%s", error)
        except Exception:
            log.exception("a periodic task failed; going on")
