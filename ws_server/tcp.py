"""What the kernel knows of a connection: asked when it matters, so that nothing is counted for each message."""

from __future__ import annotations

import sys
from math import inf
from struct import Struct
from typing import TYPE_CHECKING

from .patience import Flow

if TYPE_CHECKING:
    from .handler import Stream

# Linux's numbers, and of its struct tcp_info: tcpi_last_data_recv and tcpi_last_ack_recv in milliseconds,
# tcpi_bytes_acked, tcpi_notsent_bytes, tcpi_bytes_sent and tcpi_bytes_retrans (the last two since 4.19).
IPPROTO_TCP, TCP_INFO = 6, 11
_INFO = Struct("=52x II 60x Q 16x I 52x QQ")


def flow(stream: Stream, buffered: int) -> Flow:
    """How the client takes what is sent; where the kernel does not tell, what it takes of the `buffered` bytes here."""
    told = _information(stream)
    if len(told) < _INFO.size:
        return Flow(-buffered, buffered, inf, inf)
    received_ms, acknowledged_ms, acknowledged, unsent, sent, again = _INFO.unpack(told)
    waiting = sent - again - acknowledged + unsent + buffered
    return Flow(acknowledged, waiting, received_ms / 1000, acknowledged_ms / 1000)


def _information(stream: Stream) -> bytes:
    if sys.platform != "linux":
        return b""
    try:
        return stream.getsockopt(IPPROTO_TCP, TCP_INFO, _INFO.size)
    except OSError:  # no TCP, or gone
        return b""
