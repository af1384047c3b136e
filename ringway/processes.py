"""Child processes that never outlive this one: each in a process group of its own, its output read line by line.

A guardian process holds the reading end of a pipe. When this process ends, however it ends (kill -9 too),
the pipe closes and the guardian kills the groups that are left.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .core.errors import RingwayError

KEPT_LINES = 200

# Reads "+pgid" and "-pgid" lines until the end of the pipe, then kills the groups that are left.
_GUARDIAN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == '+' else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class NotReady(RingwayError):
    """A child ended, or stayed silent too long, before its ready line; `lines` is the end of its output."""

    def __init__(self, name: str, why: str, lines: Sequence[str]) -> None:
        super().__init__("\n  ".join([f"{name} {why}; its last lines:", *list(lines)[-15:]]))
        self.name = name


class Child:
    """One process: its output goes line by line to `on_line`, its end to `on_exit`, in threads of its own."""

    def __init__(
        self,
        name: str,
        popen: subprocess.Popen[str],
        on_line: Callable[[Child, str], None],
        on_exit: Callable[[Child], None],
    ) -> None:
        self.name = name
        self.popen = popen
        self.pid = popen.pid
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.stopping = False
        self._changed = threading.Condition()
        self._exited = False
        self._on_line = on_line
        self._on_exit = on_exit
        reader = threading.Thread(target=self._read, name=f"read-{name}", daemon=True)
        reader.start()
        threading.Thread(target=self._await_end, args=(reader,), name=f"wait-{name}", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def ended(self) -> bool:
        """Whether it has ended and its last line was read."""
        return self._exited

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.popen.returncode
        if code is None:
            return "still runs"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def wait_line(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The first line that matches `pattern`. Raises NotReady when the child ends first or the time is over."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self.lines:
                    if match := re.search(pattern, line):
                        return match
                if self._exited:
                    raise NotReady(self.name, self.ending, self.lines)
                if not self._changed.wait(deadline - time.monotonic()):
                    raise NotReady(self.name, f"was not ready within {timeout_s:g} s", self.lines)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens if it has ended."""
        if self.alive:
            self.popen.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all that it started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # all have ended

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end and for the last line to be read; False if it still runs."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._exited:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return self._exited
        return True

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as stream:
            for line in stream:
                self._take(line.rstrip("\n"))

    def _await_end(self, reader: threading.Thread) -> None:
        self.popen.wait()
        self.send_group(signal.SIGKILL)  # what it left behind would keep its ports and its output open
        reader.join(5.0)
        with self._changed:
            self._exited = True
            self._changed.notify_all()
        self._on_exit(self)

    def _take(self, line: str) -> None:
        self._on_line(self, line)
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()


class Processes:
    """Starts children and stops them all, in the reverse order, when the context ends."""

    def __init__(
        self,
        on_line: Callable[[Child, str], None] = lambda child, line: None,
        on_exit: Callable[[Child], None] = lambda child: None,
    ) -> None:
        self._on_line = on_line
        self._on_exit = on_exit
        self._children: list[Child] = []
        self._at_close: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self._sealed = False
        self._guardian = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _GUARDIAN], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str | None] | None = None, cwd: Path | None = None
    ) -> Child:
        """Start one child. `env` changes this process's environment; None takes a variable away.

        Raises RingwayError after `seal`.
        """
        with self._lock:
            if self._sealed:
                raise RingwayError(f"{name} not started: everything is being stopped")
            child = Child(name, _popen(argv, env or {}, cwd), self._on_line, self._on_exit)
            self._children.append(child)
            self._tell_guardian("+", child.pid)
        return child

    def at_close(self, action: Callable[[], object]) -> None:
        """Run `action` after all children have ended; at once after `seal`, when none can be started that needs it."""
        with self._lock:
            if not self._sealed:
                self._at_close.append(action)
                return
        action()

    def seal(self) -> None:
        """Nothing can be started any more: what another thread is starting is there already, or never will be."""
        with self._lock:
            self._sealed = True

    def stop(self, children: Sequence[Child], grace_s: float, insist_s: float | None = None) -> None:
        """SIGTERM to each, and SIGKILL to the group of each that still runs after `grace_s` together.

        After `insist_s` comes a second SIGTERM, by which ringway's services end at once instead of draining.
        """
        for child in children:
            child.stopping = True
        for wait_s in (grace_s,) if insist_s is None else (insist_s, grace_s):
            for child in children:
                child.send(signal.SIGTERM)
            _wait_all(children, wait_s)
        for child in children:
            if not child.ended:
                child.send_group(signal.SIGKILL)
                child.wait(10.0)
            self._tell_guardian("-", child.pid)

    def close(self, grace_s: float = 3.0) -> None:
        """Stop what still runs, last started first, and the guardian."""
        self.seal()
        for child in reversed(self._children):
            self.stop([child], grace_s)
        self._children.clear()
        for action in reversed(self._at_close):
            action()
        self._at_close.clear()
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait()

    def _tell_guardian(self, sign: str, group: int) -> None:
        assert self._guardian.stdin is not None
        with self._lock:
            self._guardian.stdin.write(f"{sign}{group}\n")
            self._guardian.stdin.flush()


def _wait_all(children: Sequence[Child], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for child in children:
        child.wait(deadline - time.monotonic())


def _popen(argv: Sequence[str], env: Mapping[str, str | None], cwd: Path | None) -> subprocess.Popen[str]:
    merged = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={name: value for name, value in merged.items() if value is not None},
        cwd=cwd,
        start_new_session=True,
    )
