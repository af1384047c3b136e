"""The time that a client has to send a request, in all; a limit of each read alone would let it go on for ever."""

from __future__ import annotations

import errno
import time

LEAST_S = 0.01  # what is there already is read even when it is late


class Due:
    """For a socket that blocks its greenlet: `due` is when what it reads now must have come (`time.monotonic()`)."""

    due = 0.0
    late = False  # it had not: what still comes is the rest of a request that nobody waits for

    @property
    def left_s(self) -> float:
        return max(LEAST_S, self.due - time.monotonic())

    def too_late(self) -> ConnectionResetError:
        """What reading raises then: an error that pywsgi takes for the client's."""
        self.late = True
        return ConnectionResetError(errno.ECONNRESET, "the client took too long to send its request")
