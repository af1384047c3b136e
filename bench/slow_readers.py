"""Clients that send and never read: what they are sent piles up on the server until it has enough of them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .peers import WORK

MESSAGES, SIZE = 5_000, 10_000
_MASKED = b"\x81\xfe" + struct.pack(">H", SIZE) + bytes(4) + b"x" * SIZE
_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def rest_of(paths: Sequence[str]) -> Path:
    """A file of the paths that the first 100 connections have not used: a ticket is good for once."""
    file = WORK / "rest"
    file.write_text("\n".join(paths[100:500]))
    return file


def close_code(port: int, path: str) -> int:
    """Send without reading until the server ends it; the code of its close frame, 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(_REQUEST.format(path=path).encode())
        with suppress(OSError):  # the server closes: what it said is in our buffer
            for _ in range(MESSAGES):
                client.sendall(_MASKED)
        said = b""
        with suppress(OSError):  # a reset after the close frame
            while data := client.recv(1 << 20):
                said = (said + data)[-200:]
    at = said.rfind(b"\x88")
    return int.from_bytes(said[at + 2 : at + 4], "big") if at >= 0 else 0


@contextmanager
def slow_readers(port: int, paths: Sequence[str]) -> Iterator[list[int]]:
    """They come one after another during the block. The list gets each one's close code."""
    codes: list[int] = []
    over = threading.Event()

    def run() -> None:
        for path in paths:
            if over.is_set():
                return
            codes.append(close_code(port, path))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield codes
    finally:
        over.set()
        thread.join()
