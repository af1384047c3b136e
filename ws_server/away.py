"""Users that are on another node than their owner: it was down when they came, or they have not gone to it yet.

The node that has such a user keeps a short-lived record in Redis; the owner, asked for a user it does not have, looks
there and passes the message on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ringway.core.errors import Unavailable
from ringway.store.keys import Keys
from ringway.store.softdown import AwayRecords

from .lanes import Lane
from .redis_link import RedisLink

KNOWN_S = 3.0  # an answer is good for so long
NOWHERE_S = 0.3  # where it is "nowhere": the user of a dead node is somewhere else in a moment
KNOWN_LIMIT = 20_000
MARKED_AT_ONCE = 500  # more would hold up the event loop for milliseconds

Publish = Callable[[str, bytes], object]


class Away:
    """Looks up where users are that are not here, in batches, and forwards to them."""

    def __init__(self, me: str, records: AwayRecords, keys: Keys, link: RedisLink, publish: Publish) -> None:
        self._me, self._records, self._keys, self._link, self._publish = me, records, keys, link, publish
        self._known: dict[str, tuple[float, str | None]] = {}
        self._asked: Lane[tuple[str, bytes, Collection[str]]] = Lane("looking up users", self._look_up, limit=20_000)
        self.forwarded = 0

    def start(self) -> None:
        self._asked.start()

    def stop(self) -> None:
        self._asked.stop()

    def forward(self, uid: str, notice: bytes, *, besides: Collection[str]) -> None:
        """Pass a notice on to where the user is, if anywhere; not to this node nor to those in `besides`."""
        known = self._known.get(uid)
        if known is not None and known[0] > time.monotonic():
            self._pass(uid, notice, known[1], besides)
        elif self._link.up:
            self._asked.put((uid, notice, besides))

    def mark(self, uids: Sequence[str]) -> bool:
        """Record that these users are here. Blocks. Returns whether Redis took it."""
        try:
            for start in range(0, len(uids), MARKED_AT_ONCE):
                self._records.put(dict.fromkeys(uids[start : start + MARKED_AT_ONCE], self._me))
        except Unavailable as error:
            self._link.lost(error)
            return False
        return True

    def _look_up(self, asked: list[tuple[str, bytes, Collection[str]]]) -> None:
        uids = list({uid for uid, _, _ in asked})
        try:
            found = self._records.of(uids)
        except Unavailable as error:
            self._link.lost(error)
            return
        self._learn({uid: found.get(uid) for uid in uids})
        for uid, notice, besides in asked:
            self._pass(uid, notice, found.get(uid), besides)

    def _learn(self, found: dict[str, str | None]) -> None:
        if len(self._known) + len(found) > KNOWN_LIMIT:
            self._known.clear()
        now = time.monotonic()
        self._known.update(
            {uid: (now + (NOWHERE_S if node is None else KNOWN_S), node) for uid, node in found.items()}
        )

    def _pass(self, uid: str, notice: bytes, node: str | None, besides: Collection[str]) -> None:
        if node is not None and node != self._me and node not in besides:
            self.forwarded += 1
            self._publish(self._keys.node_channel(node), notice)
