"""Ports for servers that cannot bind port 0 and say which they got."""

from __future__ import annotations

import random
import socket

# Below Linux's ephemeral range (32768 up): no outgoing connection takes one while its server is down for a restart.
_RANGE = (15000, 32000)
_random = random.SystemRandom()  # xdist's workers may share a seed


def pick_port() -> int:
    """A port of loopback that is free now; whoever binds it too late has to pick again."""
    for _ in range(200):
        port = _random.randrange(*_RANGE)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port found within {_RANGE}")
