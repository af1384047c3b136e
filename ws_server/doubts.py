"""Whether what Redis lost is back: asked once the time has passed in which it may be appended again.

Right after Redis lost power it is known that messages are gone, and not yet whether those who had their ok bring them
back. Sessions are served at once, as if nothing were missing; if something still is when the time is over, they are
told by a `position` frame with `recovered` false. docs/decisions/0030-redis-restarts.md.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import gevent

from ringway.core import frames
from ringway.core.frames import Position
from ringway.store.log import GRACE_S, Entries, MessageLog

from .channels import Channel
from .redis_link import AWAY, RedisLink
from .sessions import Session
from .wire import encode_text

log = logging.getLogger(__name__)

ASK_AFTER_S = GRACE_S + 0.5


class Doubt(NamedTuple):
    """Whether anything after the position is missing: for a session, or for all that are in the channel (None)."""

    channel: Channel
    session: Session | None
    after: Position

    @property
    def told(self) -> list[Session]:
        """Whom a loss concerns."""
        sinks: list[Any] = self.channel.sinks
        return sinks if self.session is None else [session for session in sinks if session is self.session]


class Doubts:
    """Doubts that wait for their time. `losses` counts those that were right."""

    def __init__(self, messages: MessageLog, link: RedisLink) -> None:
        self._log, self._link = messages, link
        self._waiting: deque[Doubt] = deque()
        self._greenlet: Any = None
        self.losses = 0

    def add(self, doubt: Doubt) -> None:
        """Ask when it is time. Never blocks."""
        self._waiting.append(doubt)
        if not self._greenlet:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet:
            self._greenlet.kill()

    def _run(self) -> None:
        while self._waiting:
            gevent.sleep(ASK_AFTER_S)
            due, self._waiting = self._waiting, deque()
            try:
                self.judge(due)
            except AWAY as error:
                self._link.lost(error)
                self._waiting.extendleft(reversed(due))

    def judge(self, due: deque[Doubt]) -> None:
        """Ask Redis about these, all of which have waited. Takes out what has its answer. Raises what Redis raises."""
        for some in _one_a_channel(due):
            found: dict[str, Entries] = {}
            for own in (True, False):
                asked = {one.channel.ch: one.after for one in some if (one.session is None) is own}
                if asked:
                    found |= self._log.read_many(asked, 0, own=own, create=False)
            for one in some:
                due.remove(one)
                self._settle(one, found[one.channel.ch])

    def _settle(self, doubt: Doubt, entries: Entries) -> None:
        if entries.doubtful:  # Redis restarted once more
            self._waiting.append(doubt)
        elif not entries.recovered:
            self.losses += 1
            log.warning("Redis lost messages of %s after %s, and nobody had them", doubt.channel.ch, doubt.after)
            oldest = max(entries.oldest, entries.seq - entries.pending + 1)
            for session in doubt.told:
                _tell(doubt.channel, session, oldest)


def _tell(channel: Channel, session: Session, oldest: int) -> None:
    """Something is missing before where the session is now."""
    at = channel.reached(session) or channel.position
    if at is not None:
        frame = frames.position(ch=channel.ch, gen=at.gen, seq=at.seq, recovered=False, oldest=oldest)
        session.send_frame(encode_text(frame))


def _one_a_channel(due: deque[Doubt]) -> Iterator[list[Doubt]]:
    """The doubts, such that no channel comes twice in a list."""
    while due:
        yield list({one.channel.ch: one for one in reversed(due)}.values())
