"""Clients that send and never read: what they are sent piles up on the server until it has enough of them."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .loadgen import load
from .peers import Running
from .processes import LOAD_CORE, MANY_CORES, resident_kib, settle

MESSAGES, SIZE = 5_000, 10_000
PATIENCE_S = 1.0  # a server that has stopped reading in its turn, and waits
BETWEEN_S = 0.1
READERS = 200  # at most, in one measurement
ECHOES = 100
CLOSED_SLOW = 4101
_MASKED = b"\x81\xfe" + struct.pack(">H", SIZE) + bytes(4) + b"x" * SIZE
_ECHOED = b"\x81\x7e" + struct.pack(">H", SIZE)
_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Seen:
    """What slow readers found when they read at last: close codes (0: none), and whether a frame was torn."""

    codes: list[int] = field(default_factory=list)
    torn: int = 0
    peak_kib: float = 0.0


def echoed(stream: bytes) -> tuple[int, bool]:
    """(close code, torn) of all that a server sent after its handshake. A last frame that a reset cut is not torn; a
    frame with something else in its middle is."""
    at, code = 0, 0
    while len(stream) - at >= 4:
        size = stream[at + 1]
        if stream[at] == 0x88 and size < 126:
            code = int.from_bytes(stream[at + 2 : at + 4], "big") if size >= 2 else 0
        elif stream[at : at + 4] == _ECHOED:
            if stream[at + 4 : at + 4 + SIZE].strip(b"x"):
                return code, True
            at += 2
            size = SIZE
        elif stream[at] not in (0x81, 0x89) or (size > 125 and size != 126):
            return code, True
        elif size == 126:
            at += 2
            size = int.from_bytes(stream[at : at + 2], "big")
        at += 2 + size
    return code, False


def slow_reader(port: int, path: str) -> bytes:
    """Send without reading until all is sent or the server ends it; then all that it sent after its handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(_REQUEST.format(path=path).encode())
        with suppress(OSError):  # the server closes, or waits for us: what it said is in our buffer
            for _ in range(MESSAGES):
                client.sendall(_MASKED)
        said = bytearray()
        with suppress(OSError):  # a reset after the close frame, or it has nothing more to say
            while data := client.recv(1 << 20):
                said += data
    return bytes(said.partition(b"\r\n\r\n")[2])


@contextmanager
def slow_readers(server: Running, paths: Sequence[str]) -> Iterator[Seen]:
    """They come one after another during the block."""
    seen, over, pids = Seen(), threading.Event(), server.pids

    def run() -> None:
        if MANY_CORES:
            os.sched_setaffinity(0, {LOAD_CORE})  # of this thread
        # Only when the load generator has nothing to do: its waiting for this thread would count as the server's.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        for path in paths:
            stream = b""
            with suppress(OSError):
                stream = slow_reader(server.port, path)
            seen.peak_kib = max(seen.peak_kib, resident_kib(pids))
            code, torn = echoed(stream)
            seen.codes.append(code)
            seen.torn += torn
            if over.wait(BETWEEN_S):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def beside_slow_readers(server: Running, seconds: float) -> dict[str, Any]:
    """Echo of 100 connections while clients that send 50 MB each, and never read the echo of it, come one by one."""
    options = ("--inflight", "1", "--size", "64")
    alone = load("echo", server, ECHOES, seconds, *options)
    settle(server.pids)
    before, readers = resident_kib(server.pids), slow_paths(server)
    with slow_readers(server, readers) as seen:
        beside = load("echo", server, ECHOES, seconds, *options)
    settle(server.pids)
    return {**beside, "p99_alone_ms": alone["p99_ms"], "readers": len(seen.codes),
            "closed_4101": seen.codes.count(CLOSED_SLOW), "torn": seen.torn,
            "grown_mib": round((seen.peak_kib - before) / 1024, 1),
            "kept_mib": round((resident_kib(server.pids) - before) / 1024, 1)}


def slow_paths(server: Running) -> list[str]:
    """A request path for each slow reader, with a ticket where the server wants one."""
    options = list(server.options(ECHOES + READERS))
    if "--paths" not in options:
        return ["/"] * READERS
    return Path(options[options.index("--paths") + 1]).read_text().split()[ECHOES:]
