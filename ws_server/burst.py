"""Sends that leave together: for work that hands out many messages in one go, often several to one connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gevent import get_hub

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger(__name__)


class Burst:
    """From `begin` until the loop's next turn, which is before anything new is read, what connections are to send
    waits; then it leaves, in one write for each of them. One for all connections of a loop.

    Attributes:
        on: whether it is.
    """

    __slots__ = ("_waiting", "on")

    def __init__(self) -> None:
        self.on = False
        self._waiting: list[Connection] = []

    def begin(self) -> None:
        if not self.on:
            self.on = True
            get_hub().loop.run_callback(self._end)

    def add(self, connection: Connection) -> None:
        """At the end it is to send what it has gathered."""
        self._waiting.append(connection)

    def _end(self) -> None:
        self.on = False
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            try:
                connection.flush()
            except Exception:  # the others must not wait for ever
                log.exception("what %r was to send could not leave", connection)
