"""What a connection stands between: a stream of bytes below it, and the application's callbacks above."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .connection import Connection
    from .handshake import Handshake


class Stream(Protocol):
    """A non-blocking socket, plain or TLS: BlockingIOError when it would block, OSError when it is broken."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def fileno(self) -> int: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Handler(Protocol):
    """The application's side: plain callbacks that run in the hub and must not block."""

    def on_open(self, connection: Connection, request: Handshake, /) -> None: ...
    def on_text(self, connection: Connection, payload: bytes, /) -> None: ...
    def on_binary(self, connection: Connection, payload: bytes, /) -> None: ...
    def on_close(self, connection: Connection, code: int, reason: str, cause: str, /) -> None:
        """Once for each `on_open`, a turn of the loop after the connection stopped being open."""


class Ending(NamedTuple):
    """Why a connection ended, as it was counted."""

    code: int
    reason: str
    cause: str
