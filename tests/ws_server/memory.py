"""How much memory this process holds, less what it would give back if it were asked."""

from __future__ import annotations

import ctypes
import gc

import psutil


def resident() -> int:
    """Bytes in use, less what the C library only keeps for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(psutil.Process().memory_info().rss)
