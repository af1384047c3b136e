"""What a test may leave behind: nothing. Processes, threads and sockets of this process, before and after."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass

import psutil

from tests.harness.waiting import wait_until

SETTLE_S = 3.0  # a stopped thread or process may need a moment to be gone


@dataclass(frozen=True, slots=True)
class Resources:
    """Each resource by its identity and what to call it in a failure."""

    held: dict[str, str]

    @classmethod
    def now(cls) -> Resources:
        return cls({**_processes(), **_threads(), **_sockets()})

    def since(self, before: Resources) -> dict[str, str]:
        return {identity: what for identity, what in self.held.items() if identity not in before.held}


def leaked(before: Resources, allowed: Resources) -> list[str]:
    """What is here now, was not before, and does not go away by itself; in words."""

    def left() -> dict[str, str]:
        found = Resources.now().since(before)
        return {identity: what for identity, what in found.items() if identity not in allowed.held}

    if not left():
        return []
    gc.collect()  # a socket in a reference cycle is not the test's fault
    try:
        wait_until(lambda: not left(), SETTLE_S)
    except AssertionError:
        return sorted(left().values())
    return []


def _processes() -> dict[str, str]:
    found = {}
    for child in psutil.Process().children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                identity = f"process {child.pid} {child.create_time()}"
                found[identity] = f"process {child.pid}: {' '.join(child.cmdline())}"
        except psutil.NoSuchProcess:
            continue  # it ended while we looked
    return found


def _threads() -> dict[str, str]:
    """Threads that Python started; a dummy stands for one that it did not, like those of gevent's pool."""
    started = [each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)]
    return {f"thread {id(each)} {each.name}": f"thread {each.name!r}" for each in started}


def _sockets() -> dict[str, str]:
    """Sockets by inode: a file descriptor's number is used again, an inode's for a long time is not."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # closed while we looked
        if target.startswith("socket:"):
            found[target] = f"{target} (fd {number})"
    return found
