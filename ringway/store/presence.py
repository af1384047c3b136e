"""Who is connected, and on which node: one set of uids for each boot of a node.

The set lives only as long as the node renews it, so a node that crashed leaves no ghosts behind for longer than
`ttl_s`; and as each boot has a set of its own, a node that starts again never inherits any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from .client import Client, redis_errors
from .keys import Keys

TTL_S = 60.0
_CHUNK = 1000
_FORGET_S = 3600.0  # after so long the index drops a boot that nobody renews


class Presence:
    """What one boot of one node says about itself. Renew it every `ttl_s / 3` seconds.

    Every change is remembered here too, so that `renew` can make good what Redis did not take, or lost.
    """

    def __init__(
        self, client: Client, keys: Keys, node: str, boot: str, *, ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: clock: unix seconds, only used to tidy the index up."""
        self._client, self._keys, self._node, self._boot = client, keys, node, boot
        self._key, self._ttl_ms, self._clock = keys.presence(node, boot), int(ttl_s * 1000), clock
        self._uids: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uids)

    def add(self, uids: Iterable[str]) -> None:
        """These users have a session here now. Raises Unavailable; the next `renew` makes it good."""
        new = list(uids)
        with self._lock:
            self._uids.update(new)
        self._write(lambda pipe: self._sadd(pipe, new))

    def remove(self, uids: Iterable[str]) -> None:
        """These users have no session here any more. Raises Unavailable; the next `renew` makes it good."""
        gone = list(uids)
        with self._lock:
            self._uids.difference_update(gone)
        self._write(lambda pipe: [pipe.srem(self._key, *chunk) for chunk in _chunks(gone)])

    def renew(self) -> None:
        """Keep the set alive; if Redis has another one than this object, write it anew. Raises Unavailable."""
        known = self._write(lambda pipe: pipe.scard(self._key))[0]
        with self._lock:
            uids = list(self._uids)
        if known != len(uids):
            self._write(lambda pipe: self._rewrite(pipe, uids))

    def close(self) -> None:
        """Nobody is connected here any more: the node stops. Raises Unavailable."""
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.delete(self._key)
            pipe.zrem(self._keys.presence_index, self._member)
            pipe.execute()

    @property
    def _member(self) -> str:
        return f"{self._node} {self._boot}"

    def _rewrite(self, pipe: Any, uids: Sequence[str]) -> None:
        pipe.delete(self._key)
        self._sadd(pipe, uids)

    def _sadd(self, pipe: Any, uids: Sequence[str]) -> None:
        for chunk in _chunks(uids):
            pipe.sadd(self._key, *chunk)

    def _write(self, write: Callable[[Any], object]) -> list[Any]:
        now = self._clock()
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            write(pipe)
            pipe.pexpire(self._key, self._ttl_ms)
            pipe.zadd(self._keys.presence_index, {self._member: now})
            pipe.zremrangebyscore(self._keys.presence_index, "-inf", now - _FORGET_S)
            replies: list[Any] = pipe.execute()
        return replies


class PresenceReader:
    """Asks all nodes' sets at once."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def where(self, uids: Sequence[str]) -> dict[str, str | None]:
        """For each user a node with a session of theirs, None if there is none. Raises Unavailable."""
        found: dict[str, str | None] = dict.fromkeys(uids)
        for chunk in _chunks(list(found)):
            boots, replies = self._ask(lambda pipe, key, asked=chunk: pipe.smismember(key, asked))
            for node, here in zip(boots, replies, strict=True):
                found.update({uid: node for uid, yes in zip(chunk, here, strict=True) if yes})
        return found

    def count(self) -> int:
        """Users connected; one who is just moving counts on both nodes. Raises Unavailable."""
        return sum(self._ask(lambda pipe, key: pipe.scard(key))[1])

    def users(self) -> dict[str, set[str]]:
        """All users, by the node they are connected to: as much data as there are users. Raises Unavailable."""
        found: dict[str, set[str]] = {}
        for node, uids in zip(*self._ask(lambda pipe, key: pipe.smembers(key)), strict=True):
            found.setdefault(node, set()).update(uid.decode() for uid in uids)
        return found

    def _ask(self, question: Callable[..., object]) -> tuple[list[str], list[Any]]:
        """The nodes, and each one's reply."""
        with redis_errors():
            members: Any = self._client.zrange(self._keys.presence_index, 0, -1)
            boots = [tuple(member.decode().split(" ", 1)) for member in members]
            if not boots:
                return [], []
            with self._client.pipeline(transaction=False) as pipe:
                for node, boot in boots:
                    question(pipe, self._keys.presence(node, boot))
                return [node for node, _boot in boots], pipe.execute()


def _chunks(items: Sequence[str]) -> Iterable[list[str]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
