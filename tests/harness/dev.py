"""`ringway dev` as a process: its stream, the variables it prints, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from ringway.processes import Child, Processes
from tests.harness.waiting import wait_until

READY_S = 60.0
VARIABLES = r"^  \S+ node$|node$"


class Dev:
    """A development cluster, as `make demo` starts it. `variables` are those that it prints for another terminal.

    `until`: the line that is waited for, the end of those variables unless told.
    """

    def __init__(self, *arguments: str, env: Mapping[str, str | None] | None = None, until: str = VARIABLES) -> None:
        self._arguments, self._until = arguments, until
        self._env = {name: None for name in os.environ if name.startswith("RINGWAY_")} | dict(env or {})
        self.lines: list[str] = []

    def __enter__(self) -> Dev:
        self._processes = Processes(on_line=self._take)
        command = [sys.executable, "-c", "from ringway.cli import main; main()", "dev", "--port", "0", *self._arguments]
        self.child = self._processes.start("dev", command, self._env)
        try:
            self.child.wait_line(self._until, READY_S)
        except BaseException:
            self._processes.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.send(signal.SIGTERM)
        self.child.wait(20.0)
        self._processes.close()
        if error is not None:
            print("--- ringway dev", *self.lines[-80:], sep="\n")

    def _take(self, child: Child, line: str) -> None:
        if child.name == "dev":  # not what runs beside it
            self.lines.append(line)

    @property
    def variables(self) -> dict[str, str]:
        """LOOKUP, RINGWAY_ZOOKEEPER, RINGWAY_REDIS and RINGWAY_LOOKUP, read from what a user would paste."""
        return dict(re.findall(r"^  export (\w+)=(\S+)$", "\n".join(self.lines), re.MULTILINE))

    @property
    def lookup(self) -> str:
        return self.variables["LOOKUP"]

    def descendants(self) -> dict[str, psutil.Process]:
        """Everything that runs under it, by pid and command line."""
        return {f"{p.pid} {' '.join(p.cmdline())}": p for p in psutil.Process(self.child.pid).children(recursive=True)}

    def pid_of(self, name: str) -> int:
        """The process of a part, by the node id or the module in its environment and command line."""
        for process in self.descendants().values():
            if process.environ().get("RINGWAY_NODE_ID") == name:
                return process.pid
        raise AssertionError(f"no process of {name} among {list(self.descendants())}")

    def start_beside(
        self, name: str, command: Sequence[str], env: Mapping[str, str | None] | None = None, cwd: Path | None = None
    ) -> Child:
        """A command in "another terminal", with the variables set; it ends with the cluster."""
        return self._processes.start(name, command, self._env | self.variables | dict(env or {}), cwd)

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> str:
        """The first line of the stream that matches."""

        def found() -> str | None:
            return next((line for line in list(self.lines) if re.search(pattern, line)), None)

        return wait_until(found, timeout_s, f"a line like {pattern!r}") or ""


def all_gone(processes: Mapping[str, psutil.Process], timeout_s: float = 20.0) -> None:
    """Wait until none of these processes runs; AssertionError names those that do."""

    def left() -> list[str]:
        return [name for name, process in processes.items() if _runs(process)]

    nobody: Callable[[], bool] = lambda: not left()  # noqa: E731 - named for the message
    wait_until(nobody, timeout_s, f"the end of {list(processes)}")


def none_with(variable: str, value: str, timeout_s: float = 20.0) -> None:
    """Wait until no process of this user has this in its environment, whenever and by whomever it was started."""

    def left() -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if _environment(process).get(variable) == value]

    nobody: Callable[[], bool] = lambda: not left()  # noqa: E731 - named for the message
    wait_until(nobody, timeout_s, f"the end of all with {variable}={value}")


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:  # it has just ended, or is another user's
        return {}


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
