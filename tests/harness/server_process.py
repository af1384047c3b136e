"""What all servers of the tests have in common: a scope that always closes, and the verbs of a process."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from ringway.processes import Child, Processes


class Scope(ABC):
    """A context: `open` on entry, `close` on exit, and also when `open` fails half-way."""

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ServerProcess(ABC):
    """A server that is one process, started again and again under the same address."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._child: Child | None = None

    @abstractmethod
    def start(self) -> None:
        """Returns when it serves."""

    @property
    def child(self) -> Child:
        assert self._child is not None, "the server was never started"
        return self._child

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    def stop(self) -> None:
        """SIGTERM; returns when it has ended."""
        self._processes.stop([self.child], grace_s=5.0)

    def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        self.child.stopping = True
        self.child.send_group(signal.SIGKILL)
        assert self.child.wait(10.0), f"{self.child.name} survived SIGKILL"

    def kill_if_alive(self) -> bool:
        """Returns whether it was."""
        if self.alive:
            self.kill()
            return True
        return False

    def restart(self) -> None:
        """Kills it if it runs and starts it at the same address, with the data that it kept."""
        self.kill_if_alive()
        self.start()

    def freeze(self) -> None:
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)
