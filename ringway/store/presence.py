"""Who is connected, and on which node: one set of uids for each boot of a node.

A boot that has given no sign of life for `LEASE_S` counts no more, so a node that crashed leaves no ghosts behind; and
as each boot has a set of its own, a node that starts again never inherits any. The set itself is kept longer: other
nodes take the users out of it, each once, and declare those offline who have not come back (`reap`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from .client import Client, redis_errors
from .keys import Keys
from .scripts import Arg, Call, Script, run, script

RENEW_S = 5.0
LEASE_S = 20.0  # four times RENEW_S: a node that stops for some seconds is not dead
RETURN_S = 5.0  # after that, until its users are declared offline: time to come back for those of a node that stopped
KEEP_S = 3600.0  # so long after its end a boot's users can still be declared offline
_CHUNK = 250  # users in one call that looks at all boots: below a millisecond of Redis for twenty nodes


def _script(name: str, lease_s: float = LEASE_S, return_s: float = RETURN_S, keep_s: float = KEEP_S) -> Script:
    times = {"LEASE_MS": lease_s, "RETURN_MS": return_s, "KEEP_MS": keep_s}
    return script("presence.lua", f"presence_{name}.lua", **{name: int(s * 1000) for name, s in times.items()})


class Presence:
    """What one boot of one node says about itself. Renew it every `RENEW_S` seconds.

    Who is here is remembered here too, so that `renew` can make good what Redis did not take, or lost.
    """

    def __init__(
        self, client: Client, keys: Keys, node: str, boot: str, *, lease_s: float = LEASE_S, return_s: float = RETURN_S,
        keep_s: float = KEEP_S,
    ) -> None:
        self._client, self._index, self._boot = client, keys.presence_index, f"{node} {boot}"
        self._key, self._times = keys.presence(node, boot), (lease_s, return_s, keep_s)
        self._uids: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uids)

    def add(self, uids: Iterable[str], *, ask: bool = False) -> list[str]:
        """These users have a session here now. Raises Unavailable; the next `renew` makes it good.

        Args:
            ask: answer which of them nobody had before: they have come online. Otherwise the answer is empty.
        """
        new = list(uids)
        with self._lock:
            self._uids.update(new)
        return self._change("add", new, ask)

    def remove(self, uids: Iterable[str], *, ask: bool = False) -> list[str]:
        """These users have no session here any more.

        Args:
            ask: answer which of them nobody has now: they have gone offline. Otherwise the answer is empty.

        Raises:
            Unavailable: they are kept, by `renew` too, until this is said again: else nobody would be told that they
                went.
        """
        gone = list(uids)
        found = self._change("remove", gone, ask)
        with self._lock:
            self._uids.difference_update(gone)
        return found

    def renew(self) -> bool:
        """Give a sign of life; if Redis has another set than this object, write it anew. Raises Unavailable.

        False: this boot was declared dead, and its users offline, because it gave none for long. It has no users any
        more: add those who are here.
        """
        known = self._run("renew")
        with self._lock:
            if known == -1:
                self._uids.clear()
                return False
            uids = list(self._uids)
        if known != len(uids):
            self._rewrite(uids)
        return True

    def close(self) -> None:
        """The node stops. Raises Unavailable."""
        self._run("end")

    def reap(self) -> list[str] | None:
        """Some users of boots that are dead for good and did not come back: they have gone offline.

        Each is told once, to one caller. None: no boot is dead; otherwise ask again. Raises Unavailable.
        """
        found, *gone = self._run("reap", _CHUNK)
        return [uid.decode() for uid in gone] if found else None

    def _change(self, name: str, uids: Sequence[str], ask: bool) -> list[str]:
        found: list[bytes] = []
        for chunk in _chunks(uids):
            found += self._run(name, int(ask), *chunk)
        return [uid.decode() for uid in found]

    def _run(self, name: str, *args: Arg) -> Any:
        return run(self._client, Call(_script(name, *self._times), (self._index,), (self._boot, *args)))

    def _rewrite(self, uids: Sequence[str]) -> None:
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.delete(self._key)
            for chunk in _chunks(uids):
                pipe.sadd(self._key, *chunk)
            pipe.pexpire(self._key, int(self._times[2] * 1000))
            pipe.execute()


class PresenceReader:
    """Asks all nodes' sets at once."""

    def __init__(self, client: Client, keys: Keys, *, lease_s: float = LEASE_S) -> None:
        self._client, self._keys, self._live = client, keys, _script("live", lease_s)

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
        live = run(self._client, Call(self._live, (self._keys.presence_index,), ()))
        boots = [tuple(boot.decode().split(" ", 1)) for boot in live]
        if not boots:
            return [], []
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for node, boot in boots:
                question(pipe, self._keys.presence(node, boot))
            return [node for node, _boot in boots], pipe.execute()


def _chunks(items: Sequence[str]) -> Iterable[list[str]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
