"""What was sent and has no `ok` yet. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ringway.core.errors import InvalidInput, SendBufferFull

R = TypeVar("R")


@dataclass(slots=True)
class Entry(Generic[R]):
    """One message: its frame as text, the receipt that its sender holds, and when it was first written on a connection.

    `written`: unix seconds, or None. Of all clocks only that one goes on while a laptop sleeps.
    """

    id: str
    text: str
    receipt: R
    volatile: bool = False
    written: float | None = None


class Outbox(Generic[R]):
    """Messages in the order they were sent, until each is settled.

    Durable ones are written again, with the same id, on the next connection (the log drops what it has already).
    Volatile ones wait for their `ok` here too, but end with the connection.
    """

    def __init__(self, limit: int) -> None:
        """Args: limit: messages without `ok` that are kept."""
        self.limit = limit
        self._entries: dict[str, Entry[R]] = {}
        self._by_text: dict[str, Entry[R]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry[R]) -> None:
        """Keep a message. Raises SendBufferFull, or InvalidInput for an id that still waits for its ok."""
        if entry.id in self._entries:
            raise InvalidInput("id", entry.id, "must not wait for its ok already", "give each message an id of its own")
        if len(self._entries) >= self.limit:
            raise SendBufferFull(self.limit)
        self._entries[entry.id] = self._by_text[entry.text] = entry

    def settle(self, id: str) -> Entry[R] | None:
        """Take a message out: it has its answer. None for one that is not here, such as the second ok after a move."""
        entry = self._entries.pop(id, None)
        if entry is not None:
            del self._by_text[entry.text]
        return entry

    def wrote(self, text: str, now: float) -> None:
        """A frame, of a message or not, goes out on a connection. Args: now: unix seconds."""
        entry = self._by_text.get(text)
        if entry is not None and entry.written is None:
            entry.written = now

    def durable(self, id: str) -> bool:
        """Whether a message waits here that must not be given up."""
        entry = self._entries.get(id)
        return entry is not None and not entry.volatile

    def entries(self) -> list[Entry[R]]:
        return list(self._entries.values())

    def texts(self) -> list[str]:
        """The frames to write on a new connection, in order. A volatile one is written at most once, so not again."""
        return [entry.text for entry in self._entries.values() if not entry.volatile]

    def drop_volatile(self) -> list[Entry[R]]:
        """Take out the volatile messages: their connection is gone, and nobody knows whether they arrived."""
        return self._take(entry for entry in self._entries.values() if entry.volatile)

    def drop_written_before(self, moment: float) -> list[Entry[R]]:
        """Take out the messages that were first written before a moment. Of volatile ones it is no matter."""
        return self._take(entry for entry in self._entries.values()
                          if not entry.volatile and entry.written is not None and entry.written < moment)

    def clear(self) -> list[Entry[R]]:
        """Take out everything."""
        return self._take(self._entries.values())

    def _take(self, entries: Iterable[Entry[R]]) -> list[Entry[R]]:
        gone = list(entries)
        for entry in gone:
            self.settle(entry.id)
        return gone
