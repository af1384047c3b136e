"""Python's garbage collector in a process that keeps most of what it makes."""

from __future__ import annotations

import gc


def spare_collector() -> None:
    """What is there now stays: the collector need not look at it again. And not after every 700 new objects, its
    default, but after what some thousand sessions bring; that was a twentieth of a handshake's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
