"""What waits for a full socket, without I/O: chunks of whole frames, of which only the head may be begun."""

from __future__ import annotations

from collections import deque

CHUNK_BYTES = 65536

Chunk = bytes | memoryview


class Outbox:
    """First in, first out. `size` is in bytes."""

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self.size = 0

    def push(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self.size += len(chunk)

    def take(self) -> Chunk:
        """The head, with what follows joined to it up to 64 KiB, so that many small frames leave in one send."""
        chunk = self._chunks.popleft()
        if self._chunks and len(chunk) < CHUNK_BYTES:
            parts, size = [chunk], len(chunk)
            while self._chunks and size < CHUNK_BYTES:
                parts.append(self._chunks.popleft())
                size += len(parts[-1])
            chunk = b"".join(parts)
        self.size -= len(chunk)
        return chunk

    def put_back(self, rest: Chunk) -> None:
        """What the socket left of the chunk last taken: the head again, in one piece."""
        self._chunks.appendleft(rest)
        self.size += len(rest)

    def drop_all_but_head(self) -> None:
        """Forget what is not begun. Part of the head may be on the wire already, and a frame must not be torn."""
        head = self._chunks[0]
        self._chunks.clear()
        self._chunks.append(head)
        self.size = len(head)
