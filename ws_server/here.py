"""Who is on this node, told to the rest of the cluster; and who came online or went offline altogether.

A user who reloads a page or moves to another node was never offline: the end of the last session here counts only after
a short grace, and only if no other node has the user then. Redis decides both in one step, so that of several nodes one
says it. The users of a node that died are declared offline by the others, unless they are back by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from itertools import takewhile

import gevent

from ringway.store.presence import RENEW_S, Presence

from .hooks import Hooks
from .redis_link import AWAY, RedisLink
from .sessions import Sessions

log = logging.getLogger(__name__)

FLUSH_S = 0.25
GRACE_S = 1.0
SETTLE_S = 3.0  # after Redis was away: all nodes have written anew by then what it may have lost
REAP_AFTER_S = 10.0  # after the start, or after Redis was away: users of before are on their way back


class Here:
    """Collects comings and goings and writes them in batches."""

    def __init__(self, presence: Presence, sessions: Sessions, hooks: Hooks, link: RedisLink) -> None:
        self._presence, self._sessions, self._hooks, self._link = presence, sessions, hooks, link
        self._came: set[str] = set()
        self._going: dict[str, float] = {}  # uid -> when the last session ended; oldest first
        self._renewed = 0.0
        self._judge_from, self._reap_from = 0.0, time.monotonic() + REAP_AFTER_S
        link.on_back(self._redis_is_back)

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
        """The node stops; others find out who does not come back. Blocks; quiet when Redis is away."""
        try:
            self._presence.close()
        except AWAY as error:
            self._link.lost(error)

    def _turn(self, now: float) -> None:
        try:
            if now - self._renewed > RENEW_S:
                self._renew()
                self._renewed = now
                if self._hooks.offline and now >= self._reap_from:
                    self._reap()
            if now >= self._judge_from:
                self._arrivals()
                ripe = takewhile(lambda left: now - left[1] >= GRACE_S, self._going.items())  # not all of them
                self._departures([uid for uid, _ in ripe])
        except AWAY as error:
            self._link.lost(error)

    def _renew(self) -> None:
        if not self._presence.renew():
            log.warning("this node was taken for dead and its users for offline: they are online again")
            self._came.update(self._sessions.users)

    def _arrivals(self) -> None:
        came = set(self._came)
        if came:
            self._tell("online", self._hooks.online, self._presence.add(came, ask=bool(self._hooks.online)))
            self._came -= came

    def _departures(self, over: list[str]) -> None:
        """Who comes back from here on is added again, after the removal that is on its way."""
        left = {uid: self._going.pop(uid) for uid in over}
        went = [uid for uid in left if self._sessions.get(uid) is None]
        if not went:
            return
        try:
            gone = self._presence.remove(went, ask=bool(self._hooks.offline))
        except AWAY:
            self._going = {uid: at for uid, at in left.items() if uid not in self._came} | self._going
            raise
        self._tell("offline", self._hooks.offline, gone)

    def _reap(self) -> None:
        """Declare offline who was on a node that died, and has not come back."""
        while (gone := self._presence.reap()) is not None:
            self._tell("offline", self._hooks.offline, gone)

    def _tell(self, kind: str, handlers: list[Callable[[str], object]], uids: Iterable[str]) -> None:
        for uid in uids:
            gevent.spawn(self._hooks.run_all, kind, uid, handlers, uid)

    def _redis_is_back(self) -> None:
        """It may have lost what it knew."""
        self._renewed = 0.0
        now = time.monotonic()
        self._judge_from, self._reap_from = now + SETTLE_S, now + REAP_AFTER_S
