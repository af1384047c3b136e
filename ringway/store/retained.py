"""What Redis said ok to a moment ago.

Under `appendfsync everysec`, and under asynchronous replication, Redis says ok before the message is safe. Whoever got
that ok keeps the message until it is, and appends it again when Redis comes back with another history: what survived
is a duplicate by its id, what was lost is there again. See docs/decisions/0030-redis-restarts.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, NamedTuple

from ringway.core.frames import Position

# Redis writes and syncs every second, and may put a write off for two more while a sync is slow (redis.conf).
WINDOW_S = 3.0
LIMIT = 100_000


class Append(NamedTuple):
    """A message for a channel's log.

    Args:
        ch: `u:<uid>` or `g:<group>`.
        sender: uid of the sender; empty for a back end.
        id: the sender's own id of the message; the same one again is a duplicate.
        body: JSON text (orjson.dumps), passed on as it is.
        notify: pub/sub channel to tell: `Keys.node_channel(owner)` for an inbox, `Keys.group_channel(group)` for a
            group; None: nobody.
    """

    ch: str
    sender: str
    id: str
    body: bytes
    notify: str | None = None


class Kept(NamedTuple):
    """An append and where it went. `slot`: of its channel, on a Redis Cluster."""

    at: float
    append: Append
    position: Position
    slot: int = 0


Added = tuple[Append, str, int]  # a message that a log has now, and its gen and seq there

_VALUES = 9  # of a Kept, in this order: at, slot, the five of its append, gen, seq


class Retained:
    """The appends of the last `WINDOW_S` seconds, by the replication id of the Redis that has them.

    Times are monotonic seconds.

    Some ten thousand a second stay for three seconds. As objects of their own they would be a pause of a tenth of a
    second whenever the garbage collector looks at what is young; the values of all in one row are nothing to it.
    """

    def __init__(self, window_s: float = WINDOW_S, limit: int = LIMIT) -> None:
        self._window_s, self._limit = window_s, limit
        self._lock = Lock()
        self._by_replid: dict[str, deque[Any]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_replid.values())) // _VALUES

    def add(self, replid: str, at: float, slot: int, added: Sequence[Added]) -> None:
        """`replid` said ok to these then, so it lives, and what it has had for longer than the window is safe.

        Over the limit the oldest ones go.
        """
        with self._lock:
            row = self._row(replid)
            for append, gen, seq in added:
                row.extend((at, slot, *append, gen, seq))
            while row and (row[0] < at - self._window_s or len(row) > self._limit * _VALUES):
                _drop_first(row)

    def take(self, slots: Collection[int], replid: str) -> list[tuple[str, Kept]]:
        """What Redis had of these slots under other ids than this, each with its own; it is no longer kept here."""
        with self._lock:
            others = [other for other in self._by_replid if other != replid]
            return [(other, kept) for other in others for kept in self._take(other, slots)]

    def channels(self) -> list[str]:
        """Those that have something here."""
        with self._lock:
            return list({kept.append.ch: None for row in self._by_replid.values() for kept in _each(row)})

    def let_go(self, replids: Collection[str], before: float) -> None:
        """These live now: what they said ok to before that time is safe."""
        with self._lock:
            for replid in replids:
                row = self._by_replid.get(replid)
                while row and row[0] < before:
                    _drop_first(row)

    def put_back(self, taken: Sequence[tuple[str, Kept]]) -> None:
        """Undo `take`."""
        with self._lock:
            for replid, kept in reversed(taken):
                self._row(replid).extendleft(reversed(_values(kept)))

    def _take(self, replid: str, slots: Collection[int]) -> list[Kept]:
        taken: list[Kept] = []
        left: deque[Any] = deque()
        for kept in _each(self._by_replid.pop(replid)):
            if kept.slot in slots:
                taken.append(kept)
            else:
                left.extend(_values(kept))
        if left:
            self._by_replid[replid] = left
        return taken

    def _row(self, replid: str) -> deque[Any]:
        return self._by_replid.setdefault(replid, deque())


def _values(kept: Kept) -> tuple[Any, ...]:
    return (kept.at, kept.slot, *kept.append, *kept.position)


def _each(row: Iterable[Any]) -> Iterator[Kept]:
    values = iter(row)
    for at, slot, *append, gen, seq in zip(*[values] * _VALUES, strict=True):
        yield Kept(at, Append(*append), Position(gen, seq), slot)


def _drop_first(row: deque[Any]) -> None:
    for _ in range(_VALUES):
        row.popleft()
