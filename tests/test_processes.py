"""Children never outlive their parent, whatever ends it; their output and their end are seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ringway.core.errors import RingwayError
from ringway.processes import Child, NotReady, Processes
from tests.harness.waiting import wait_until

SLEEPER = [sys.executable, "-c", "import signal; print('ready pid', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()",
]
WITH_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys; p = subprocess.Popen(['sleep', '1000']); print('ready', p.pid, flush=True); p.wait()",
]


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_is_read_line_by_line(processes: Processes) -> None:
    child = processes.start("a", [sys.executable, "-c", "print('one'); print('two')"])
    assert child.wait_line(r"t(w)o", 10.0)[1] == "w"
    assert child.wait(10.0)
    assert child.ending == "exited with code 0"


def test_a_child_that_ends_before_it_is_ready_shows_its_last_lines(processes: Processes) -> None:
    child = processes.start("a", [sys.executable, "-c", "print('boom'); raise SystemExit(3)"])
    with pytest.raises(NotReady, match=r"(?s)exited with code 3.*boom"):
        child.wait_line("ready", 10.0)


def test_a_silent_child_is_not_waited_for_for_ever(processes: Processes) -> None:
    with pytest.raises(NotReady, match=r"not ready within 0\.05 s"):
        processes.start("a", ["sleep", "1000"]).wait_line("ready", 0.05)


def test_closing_stops_even_a_child_that_ignores_sigterm() -> None:
    running = Processes()
    child = running.start("a", STUBBORN)
    child.wait_line("ready", 10.0)
    running.close(grace_s=0.1)
    assert child.ending == "was killed by SIGKILL"


def test_nothing_is_started_after_closing() -> None:
    running = Processes()
    running.close()
    with pytest.raises(RingwayError, match="being stopped"):
        running.start("a", SLEEPER)


def test_the_end_of_a_child_is_told_and_takes_its_own_children_along() -> None:
    ended: list[Child] = []
    with Processes(on_exit=ended.append) as running:
        child = running.start("a", WITH_CHILD)
        grandchild = int(child.wait_line(r"ready (\d+)", 10.0)[1])
        child.send(signal.SIGKILL)
        assert child.wait(10.0)
        wait_until(lambda: gone(grandchild))
        wait_until(lambda: ended == [child])


def test_kill_9_of_the_parent_leaves_no_process(tmp_path: Path) -> None:
    script = (
        "import sys; from ringway.processes import Processes\n"
        f"p = Processes(); c = p.start('a', {WITH_CHILD!r}); m = c.wait_line(r'ready (\\d+)', 10.0)\n"
        "print(c.pid, m[1], flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    with parent:
        assert parent.stdout is not None
        child, grandchild = map(int, parent.stdout.readline().split())
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: gone(child) and gone(grandchild))
