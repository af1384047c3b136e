"""How long a client may take for its pong: `pong_s`, and longer while its connection shows that it lives.

A ping waits its turn behind all that was sent before it, here and in the kernel, and a pong behind all that the client
uploads: for a slow client that may take longer than `pong_s` (RFC 6455, section 5.5.3, asks for a pong "as soon as is
practical"). Pure: asked once each `pong_s` without a pong; a client that answers in time costs nothing here.
"""

from __future__ import annotations

from typing import NamedTuple

TIMES = 3  # `pong_s` in all for one that has its ping
PING_BYTES = 64  # a ping over TLS at most: no more than that is no backlog, only a client that is gone
SOON = 0.25  # of `pong_s`: an acknowledgement in this time may be that of the ping itself


class Flow(NamedTuple):
    """A connection as the kernel sees it."""

    taken: int  # bytes that the client's side has acknowledged, ever
    waiting: int  # bytes that it has not, and those that wait behind them
    received_s: float  # since it last sent something
    acknowledged_s: float  # since it last acknowledged something


class Patience:
    """With one client, from a pong that is late to its arrival."""

    __slots__ = ("_asked", "_goal", "_taken")

    def __init__(self) -> None:
        self._asked = 0
        self._goal = 0  # what it has taken when it has the ping
        self._taken: int | None = None

    def lasts(self, flow: Flow, pong_s: float) -> bool:
        """Whether the client gets `pong_s` more. Without end only while it takes what was sent before the ping."""
        before, self._taken = self._taken, flow.taken
        if before is None:
            self._goal = flow.taken + flow.waiting
            took = flow.waiting > PING_BYTES or flow.acknowledged_s < pong_s * (1 - SOON)
        else:
            took = flow.taken > before
            if took and before < self._goal:
                return True
        self._asked += 1
        return (took or flow.received_s < pong_s) and self._asked < TIMES
