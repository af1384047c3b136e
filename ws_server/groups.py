"""Groups with sessions on this node: joining with history, leaving, and membership for good.

A group's messages come over its own pub/sub channel, which the node subscribes to while somebody here is in the group.
The subscription stands before the log is read: what is published in between is held, not missed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf

from ringway.core import frames
from ringway.core.frames import Position
from ringway.store.keys import Keys, group_log
from ringway.store.memberships import Memberships

from .channels import CatchUp, Channel
from .delivery import Delivery
from .hooks import WAITING
from .lanes import Lane
from .log_reader import Head, LogPage, LogReader, Unread
from .redis_link import AWAY, RedisLink
from .sessions import Session
from .subscriber import Subscriber
from .wire import encode_text

log = logging.getLogger(__name__)

MAX_GROUPS = 1000  # of one session


class TooManyGroups(Exception):
    """A session may be in `MAX_GROUPS` groups."""


class Groups:
    """Which session is in which group."""

    def __init__(
        self, delivery: Delivery, subscriber: Subscriber, reader: LogReader, memberships: Memberships, keys: Keys,
        link: RedisLink,
    ) -> None:
        self._channels = delivery.groups
        self._subscriber, self._reader, self._memberships = subscriber, reader, memberships
        self._keys, self._link = keys, link
        self._returning: Lane[Session] = Lane("reading memberships", self._return, batch=64, limit=inf)
        self._parked: list[Session] = []
        self._behind: dict[tuple[Session, str], list[Callable[[], object]]] = {}
        link.on_again(self._unpark)
        link.on_lost(self._all_go_on)

    def start(self) -> None:
        self._returning.start()

    def stop(self) -> None:
        self._returning.stop()

    @property
    def channels(self) -> list[Channel]:
        return list(self._channels.values())

    def enter(self, session: Session, group: str, after: Position | Unread | Head | None) -> None:
        """Join: `joined`, the history after the position, then live. An ended session is left alone.

        Args:
            after: a group it is in already starts over from there. None: that goes on where it is; otherwise a member
                for good begins at the read cursor, anybody else with what comes from now on.

        Raises:
            TooManyGroups
        """
        if session.conn.closed:
            return
        if after is None and session.groups and group in session.groups:
            self._say_where(session, group, session.groups[group])
            return
        channel = self._listening(session, group)
        catch_up = channel.join(session)
        if after is None:
            self._once_known(session, lambda belongs: self._decide(session, group, channel, catch_up, belongs))
        else:
            self._begin(session, group, channel, after)

    def _listening(self, session: Session, group: str) -> Channel:
        """The group's channel, which the session is one of now."""
        if session.groups is None:
            session.groups = {}
        if group not in session.groups and len(session.groups) >= MAX_GROUPS:
            raise TooManyGroups
        channel = self._channels.get(group)
        if channel is None:
            channel = self._channels[group] = Channel(group_log(group))
        session.groups[group] = channel
        return channel

    def _say_where(self, session: Session, group: str, channel: Channel) -> None:
        """Answer a join of a group it is in; while that has no place yet, the answer to the first one is to come."""
        at = channel.place(session)
        if at is not None:
            frame = frames.joined(group=group, gen=at.gen, seq=at.seq, unread=0, recovered=True)
            session.send_frame(encode_text(frame))

    def _once_known(self, session: Session, work: Callable[[set[str]], object]) -> None:
        """Do work when it is known to which groups the user belongs for good; after that they decide nothing."""
        if session.early is None:
            work(set())
        else:
            session.early.append(work)

    def _decide(self, session: Session, group: str, channel: Channel, catch_up: CatchUp, belongs: set[str]) -> None:
        if channel.catching(session) is catch_up:  # it has not left, nor named a position, meanwhile
            self._begin(session, group, channel, _start(session, group, belongs))

    def _begin(self, session: Session, group: str, channel: Channel, after: Position | Unread | Head) -> None:
        ready = self._reading(session, group, channel, after)
        self._subscriber.subscribe(self._keys.group_channel(group), ready)

    def leave(self, session: Session, group: str) -> None:
        """Leave; a group it is not in is no error."""
        if session.early is not None:
            session.early.append(lambda belongs: belongs.discard(group))
        channel = session.groups.pop(group, None) if session.groups else None
        if channel is None:
            return
        channel.leave(session)
        if not channel and self._channels.get(group) is channel:
            del self._channels[group]
            self._subscriber.unsubscribe(self._keys.group_channel(group))
        self._go_on(session, group)

    def add_member(self, session: Session, group: str) -> None:
        """The user belongs to the group for good from now on. A session that is in it already goes on where it is."""
        self._once_known(session, lambda _belongs: self._bring_member(session, group))

    def take_in(self, session: Session, group: str) -> None:
        """The application has the session join: when it has been welcomed, if it ever is. Raises TooManyGroups."""
        if session.early is None:
            self.enter(session, group, None)
        else:
            session.early.append(lambda belongs: self._bring(session, group, _start(session, group, belongs)))

    def put_out(self, session: Session, group: str) -> None:
        """The application, or the user's end as a member, takes the session out; the client is told.

        A group it is not in is no error.
        """
        self._once_known(session, lambda belongs: self._put_out(session, group, belongs))

    def _put_out(self, session: Session, group: str, belongs: set[str]) -> None:
        belongs.discard(group)
        if session.groups and group in session.groups:
            self.leave(session, group)
            session.send_frame(encode_text(frames.left(group=group)))

    def after_joining(self, session: Session, group: str, work: Callable[[], object]) -> None:
        """Do work now, or when the join of this group that is under way has its place in the log.

        So what a session publishes after its join comes after it in the log too, and to the session itself.
        """
        channel = (session.groups or {}).get(group)
        if channel is None or not self._link.up or not channel.is_being_placed(session):
            work()
            return
        waiting = self._behind.setdefault((session, group), [])
        waiting.append(work)
        if len(waiting) == WAITING:
            session.conn.pause()

    def _go_on(self, session: Session, group: str) -> None:
        waiting = self._behind.pop((session, group), [])
        for work in waiting:
            work()
        if len(waiting) >= WAITING:
            session.conn.resume()

    def _all_go_on(self) -> None:
        """Redis is away: what waits for it is answered so."""
        for session, group in list(self._behind):
            self._go_on(session, group)

    def leave_all(self, session: Session) -> None:
        for group in list(session.groups or ()):
            self.leave(session, group)
        session.groups = None

    def bring_back(self, session: Session, groups: Sequence[str]) -> None:
        """Have the session join these groups, to which its user belongs for good, from the read cursor."""
        belongs, early, session.early = set(groups), session.early or (), None
        for work in early:
            work(belongs)
        for group in groups:
            if group in belongs:
                self._bring_member(session, group)

    def _bring_member(self, session: Session, group: str) -> None:
        if group not in (session.groups or ()):
            self._bring(session, group, Unread(session.uid))

    def _bring(self, session: Session, group: str, after: Unread | Head) -> None:
        try:
            self.enter(session, group, after)
        except TooManyGroups:
            log.warning("%r is in %d groups: not brought into %r", session, MAX_GROUPS, group)

    def come_back(self, session: Session) -> None:
        """`bring_back` when it is not known yet which groups those are."""
        if self._link.up:
            self._returning.put(session)
        else:
            self._parked.append(session)

    def _reading(
        self, session: Session, group: str, channel: Channel, after: Position | Unread | Head
    ) -> Callable[[], None]:
        def read() -> None:
            if session.groups and session.groups.get(group) is channel and channel.reached(session) is None:
                self._reader.catch_up(session, channel, after, self._joined(session, group, after))

        return read

    def _joined(
        self, session: Session, group: str, after: Position | Unread | Head
    ) -> Callable[[LogPage | None], bool]:
        asked = after if isinstance(after, Position) else None

        def tell(page: LogPage | None) -> bool:
            if page is not None:
                oldest = None if page.recovered else page.oldest
                frame = frames.joined(group=group, gen=page.gen, seq=page.seq, unread=page.pending,
                                      recovered=page.recovered, oldest=oldest, asked=asked)
                session.send_frame(encode_text(frame))
            self._go_on(session, group)
            return page is not None  # without one the answer waits for Redis

        return tell

    def _return(self, sessions: list[Session]) -> None:
        try:
            found = self._memberships.groups_of_many([session.uid for session in sessions])
        except AWAY as error:
            self._link.lost(error)
            self._parked += sessions
            return
        for session, groups in zip(sessions, found, strict=True):
            self.bring_back(session, groups)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        for session in parked:
            self.come_back(session)


def _start(session: Session, group: str, belongs: set[str]) -> Unread | Head:
    """Where a session begins that names no position."""
    return Unread(session.uid) if group in belongs else Head()
