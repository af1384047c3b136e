"""What connections cost that say nothing: memory each, and the processor time of their pings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .loadgen import held_open
from .peers import Running
from .processes import cpu_s, resident_kib, settle

STEPS = (1_000, 6_000, 12_000, 18_000)
MEMORY_FIGURE = f"kib_{STEPS[-1]}"
PING_CONNECTIONS = 10_000


def memory(server: Running, seconds: float) -> dict[str, Any]:
    """Resident memory per idle connection of a server just started, as they grow in steps, as far as it can: KiB."""
    row: dict[str, Any] = {}
    before = resident_kib(server.pids)
    steps = [step for step in STEPS if step <= server.most]
    with held_open(server, steps) as held:
        for connections in steps:
            held.grow()
            settle(server.pids)
            time.sleep(seconds)  # the figure is a level, not an event
            row[f"kib_{connections}"] = round((resident_kib(server.pids) - before) / connections, 2)
            if connections != steps[-1]:
                held.go_on()
    return row


def pings(server: Running, seconds: float) -> dict[str, Any]:
    """Share of a core that idle connections cost; one ping each falls into a window of 25 s. They are open already:
    see `pinged`."""
    start, before = time.monotonic(), cpu_s(server.pids)
    time.sleep(seconds)
    return {"core_percent": share(before, start, server.pids)}


def share(before: float, start: float, pids: Sequence[int]) -> float:
    return round((cpu_s(pids) - before) / (time.monotonic() - start) * 100, 3)


@contextmanager
def pinged(server: Running) -> Iterator[None]:
    """10,000 connections, open and quiet for the time of the block."""
    server.allow(PING_CONNECTIONS)
    with held_open(server, (PING_CONNECTIONS,)) as held:
        held.grow()
        settle(server.pids)
        yield
