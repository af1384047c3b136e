"""What Linux says of a TCP connection."""

from __future__ import annotations

import sys
from socket import IPPROTO_TCP, TCP_INFO
from typing import Any

import pytest

DATA_SEGMENTS_IN = 152  # tcpi_data_segs_in in Linux's struct tcp_info

needs_tcp_info = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's TCP_INFO")


def segments_in(sock: Any) -> int:
    """Segments with data that a socket got: as many as the server made sends, while they are small."""
    information = sock.getsockopt(IPPROTO_TCP, TCP_INFO, 256)
    return int.from_bytes(information[DATA_SEGMENTS_IN : DATA_SEGMENTS_IN + 4], sys.byteorder)
