"""What runs beside the requests: one thread for each such part, started and stopped with the process."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

STOP_S = 1.5


class Background(ABC):
    """A daemon thread. `run` works until `stopping` is set, and waits by it."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()

    def join(self) -> None:
        """Wait for the end, which comes soon after `stop`."""
        self._thread.join(STOP_S)

    @abstractmethod
    def run(self) -> None: ...
