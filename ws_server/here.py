"""Who is on this node, told to the rest of the cluster; and who came online or went offline altogether.

A user who reloads a page or moves to another node was never offline: the end of the last session here counts only after
a short grace, and only if no other node has the user then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import gevent

from ringway.store.presence import Presence, PresenceReader

from .hooks import Hooks
from .redis_link import AWAY, RedisLink
from .sessions import Sessions

log = logging.getLogger(__name__)

FLUSH_S = 0.25
GRACE_S = 1.0
RENEW_S = 20.0


class Here:
    """Collects comings and goings and writes them in batches."""

    def __init__(
        self, presence: Presence, reader: PresenceReader, sessions: Sessions, hooks: Hooks, link: RedisLink
    ) -> None:
        self._presence, self._reader, self._sessions = presence, reader, sessions
        self._hooks, self._link = hooks, link
        self._came: set[str] = set()
        self._going: dict[str, float] = {}  # uid -> when the last session ended; oldest first
        self._renewed = 0.0
        link.on_back(self._forget_renewal)

    def came(self, uid: str) -> None:
        """The user's first session here has opened. Never blocks."""
        if self._going.pop(uid, None) is None:
            self._came.add(uid)

    def went(self, uid: str) -> None:
        """The user's last session here has ended. Never blocks."""
        self._going[uid] = time.monotonic()

    def run(self) -> None:
        """The greenlet: until killed."""
        while True:
            gevent.sleep(FLUSH_S)
            if self._link.up:
                self._turn(time.monotonic())

    def close(self) -> None:
        """Nobody is here any more. Blocks; quiet when Redis is away: the record ends by itself."""
        try:
            self._presence.close()
        except AWAY as error:
            self._link.lost(error)

    def _turn(self, now: float) -> None:
        came, self._came = self._came, set()
        gone = [uid for uid, at in self._going.items() if now - at >= GRACE_S]
        for uid in gone:
            del self._going[uid]
        try:
            self._arrivals(came)
            self._departures([uid for uid in gone if self._sessions.get(uid) is None])
            if now - self._renewed > RENEW_S:
                self._presence.renew()
                self._renewed = now
        except AWAY as error:
            self._link.lost(error)

    def _arrivals(self, came: set[str]) -> None:
        if not came:
            return
        news = self._absent(came) if self._hooks.online else []
        self._presence.add(came)
        for uid in news:
            gevent.spawn(self._hooks.run_all, "online", uid, self._hooks.online, uid)

    def _departures(self, went: list[str]) -> None:
        if not went:
            return
        self._presence.remove(went)
        for uid in self._absent(went) if self._hooks.offline else []:
            gevent.spawn(self._hooks.run_all, "offline", uid, self._hooks.offline, uid)

    def _absent(self, uids: Iterable[str]) -> list[str]:
        """Those that no node has."""
        return [uid for uid, node in self._reader.where(list(uids)).items() if node is None]

    def _forget_renewal(self) -> None:
        self._renewed = 0.0  # Redis may have lost what it knew
