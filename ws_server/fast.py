"""Which of the two runs: the compiled common case (`_fast.c`), or Python alone where it was not built.

The Python code knows all the rules and is the reference; the compiled part does a subset and leaves the rest to it.
`RINGWAY_PURE_PYTHON=1` leaves the compiled part out, to tell whether it is the cause of something.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

try:
    if os.environ.get("RINGWAY_PURE_PYTHON", "") not in ("", "0"):
        raise ImportError("RINGWAY_PURE_PYTHON is set")
    from . import _fast

    compiled: Any = _fast
    WHY = ""
except ImportError as error:
    compiled = None
    WHY = str(error)

if TYPE_CHECKING or compiled is not None:
    Line = _fast.Line
else:

    class Line:
        """What a poller's turn must know of a connection; the compiled one reads it without calling Python.

        descriptor: -1 when it is gone. plain_limit: bytes of a message that the poller may read by itself; -1: it may
        not. unsent: bytes that leave when all connections that were read together have been told; or None.
        """

        __slots__ = ("descriptor", "plain_limit", "unsent")


def tell(log: logging.Logger) -> None:
    """Say which one runs, and where it is not the faster one, why."""
    if compiled is not None:
        log.info("the hot path runs compiled")
    else:
        log.warning("the hot path runs in Python, at about 1.4 times the CPU a message: %s", WHY)
