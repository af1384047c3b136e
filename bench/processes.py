"""What the system knows of the measured processes: processor time, memory, and on which core they run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psutil

SERVER_CORE, LOAD_CORE = 0, 1
MANY_CORES = (os.cpu_count() or 1) > 1
QUIET_SHARE = 0.05
QUIET_LOOK_S = 0.03


def tree(pid: int) -> list[int]:
    """The process and all that it started. Raises psutil.NoSuchProcess."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_s(pids: Sequence[int]) -> float:
    """Processor seconds of these processes so far, by their own clocks: nanoseconds, where /proc has ticks of 10 ms.

    The clock of another process has the number that clock_getcpuclockid(3) would give.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # it has ended
            total += time.clock_gettime(~pid << 3 | 2)
    return total


def resident_kib(pids: Sequence[int]) -> float:
    return float(sum(psutil.Process(pid).memory_info().rss for pid in pids)) / 1024


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """The command, on this core alone; as it is on a machine that has one."""
    return ["taskset", "-c", str(core), *command] if MANY_CORES else list(command)


def pin_apart(server: int) -> None:
    """What is measured has the servers' core for itself; the rest of its cluster shares the generator's.

    Every thread is moved. Processes that are on one core already (other servers that wait for their turn) stay there.
    """
    if not MANY_CORES:
        return
    measured = set(tree(server))
    for pid in tree(os.getpid())[1:]:
        if pid in measured or len(_cores(pid)) != 1:
            for thread in _threads(pid):
                with suppress(ProcessLookupError):  # a thread that has just ended
                    os.sched_setaffinity(thread, {SERVER_CORE if pid in measured else LOAD_CORE})


def settle(pids: Sequence[int], timeout_s: float = 5.0) -> None:
    """Wait until a server has done with what was left to do (closing its connections), so that the next one's turn is
    its own; at most `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    before, start = cpu_s(pids), time.monotonic()
    while start < deadline:
        time.sleep(QUIET_LOOK_S)
        now, end = cpu_s(pids), time.monotonic()
        if now - before < QUIET_SHARE * (end - start):
            return
        before, start = now, end


def _cores(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except ProcessLookupError:
        return {SERVER_CORE}


def _threads(pid: int) -> Iterator[int]:
    with suppress(FileNotFoundError):  # it has ended
        yield from (int(name) for name in os.listdir(f"/proc/{pid}/task"))
