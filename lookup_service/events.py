"""`GET /events`: what happens in the cluster, as server-sent events (WHATWG HTML 9.2).

Each open stream holds one thread of its worker, so their number is bounded. A listener that reads too slowly is ended
and may come back with `Last-Event-ID`: the last events are kept, and what it missed is sent first. Another process
numbers other events, but its rings are the same: there a listener gets every ring since the one it saw last.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from ringway.core.errors import InvalidInput
from ringway.core.members import Version

from .answers import Refusal

HEARTBEAT_S = 10.0
KEPT = 256
RINGS_KEPT = 64
QUEUED = 256
MAX_LISTENERS = 16
NO_RING = Version(0, 0)


class EventHub:
    """Numbers events and hands them to every listener. Ids are `<start of this process>-<n>-<version of the ring>`."""

    def __init__(self, max_listeners: int = MAX_LISTENERS) -> None:
        self._boot = secrets.token_hex(4)
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._rings: deque[tuple[Version, bytes]] = deque(maxlen=RINGS_KEPT)
        self._listeners: set[_Listener] = set()
        self._max = max_listeners
        self._lock = threading.Lock()
        self._closed = False
        self.on_count: Callable[[int], object] = lambda count: None

    def publish(self, event: str, data: Any) -> None:
        """Tell all listeners."""
        with self._lock:
            self._tell(encode(event, data, self._next_id(self._seen())))

    def publish_ring(self, version: Version, data: Any) -> None:
        """Tell all listeners of a new ring."""
        with self._lock:
            frame = encode("ring", data, self._next_id(version))
            self._rings.append((version, frame))
            self._tell(frame)

    def _tell(self, frame: bytes) -> None:
        self._kept.append((self._number, frame))
        for listener in [at for at in self._listeners if not at.offer(frame)]:
            self._drop(listener)

    def _next_id(self, version: Version) -> str:
        self._number += 1
        return self._id(version)

    def _id(self, version: Version) -> str:
        return f"{self._boot}-{self._number}-{version}"

    def _seen(self) -> Version:
        return self._rings[-1][0] if self._rings else NO_RING

    def listen(self, last_id: str | None, greeting: Callable[[], list[tuple[str, Any]]]) -> Stream:
        """The frames for one listener, until the hub closes or the stream is closed.

        Args:
            last_id: the client's Last-Event-ID. Where the events after it are still kept they come first.
            greeting: the state of things as events, sent where nothing can be resumed.

        Raises:
            Refusal: 503 `too_many_listeners`.
        """
        listener = _Listener()
        with self._lock:
            if self._closed or len(self._listeners) >= self._max:
                message = f"this lookup process serves {self._max} event streams already; ask again later"
                raise Refusal(503, "too_many_listeners", message, retry_after=5.0)
            missed, now = self._after(last_id), self._id(self._seen())
            self._listeners.add(listener)
            self.on_count(len(self._listeners))
        if missed is None:
            missed = [encode(event, data, now) for event, data in greeting()]
        listener.first = b"retry: 2000\n\n" + b"".join(missed)
        return Stream(listener, self._leave)

    def close(self) -> None:
        """End all streams; none can be opened afterwards."""
        with self._lock:
            self._closed = True
            for listener in list(self._listeners):
                self._drop(listener)

    @property
    def count(self) -> int:
        return len(self._listeners)

    def _leave(self, listener: _Listener) -> None:
        with self._lock:
            self._drop(listener)

    def _after(self, last_id: str | None) -> list[bytes] | None:
        """What was kept after an id: of this process all events, of another the rings. None where too much is gone."""
        boot, _, rest = (last_id or "").partition("-")
        number, _, version = rest.partition("-")
        if boot == self._boot and number.isdecimal():
            seen = int(number)
            oldest = self._number - len(self._kept)
            if oldest <= seen <= self._number:
                return [frame for n, frame in self._kept if n > seen]
        return self._rings_after(version)

    def _rings_after(self, text: str) -> list[bytes] | None:
        try:
            seen = Version.parse(text)
        except InvalidInput:
            return None
        known = any(version <= seen for version, _ in self._rings)
        return [frame for version, frame in self._rings if version > seen] if known else None

    def _drop(self, listener: _Listener) -> None:
        if listener in self._listeners:
            self._listeners.discard(listener)
            listener.end()
            self.on_count(len(self._listeners))


class Stream:
    """The body of one answer. Not a generator: closing one that was never begun runs none of its code, and its
    place would stay taken (a HEAD request, a client that is gone already)."""

    def __init__(self, listener: _Listener, leave: Callable[[_Listener], object]) -> None:
        self._listener, self._leave = listener, leave

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        frame = self._listener.take()
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        self._leave(self._listener)


class _Listener:
    """The queue of one stream. `first` comes before everything."""

    def __init__(self) -> None:
        self.first = b""
        self._queue: queue.Queue[bytes] = queue.Queue(QUEUED)
        self._ended = False

    def offer(self, frame: bytes) -> bool:
        """False where the listener has not read for too long."""
        try:
            self._queue.put_nowait(frame)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        self._ended = True
        self.offer(b"")  # wakes it; where the queue is full it is awake

    def take(self) -> bytes | None:
        """The next frame, a comment where nothing happened for a while, or None at the end."""
        if self.first and not self._ended:
            frame, self.first = self.first, b""
            return frame
        try:
            frame = self._queue.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            frame = b": still here\n\n"
        return None if self._ended else frame


def encode(event: str, data: Any, event_id: str | None = None) -> bytes:
    """One event. JSON of orjson has no line breaks, so the data is one line."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {event}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"
