"""Getting a message to where it belongs: into its log, and to the sessions that wait for it, wherever they are.

The ring says which node that is: no lookup a message, no broadcast over the cluster. Where the ring has just changed,
or the owner was down when the user connected, the user may be elsewhere: then a notice is passed on once. That is a
matter of speed only; durable messages are in the log and found by whoever catches up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import orjson

from ringway.core.errors import NoActiveMember, Unavailable
from ringway.core.frames import Position, volatile_msg
from ringway.core.history import Change, RingHistory
from ringway.store import notices
from ringway.store.keys import Keys, group_log, inbox
from ringway.store.log import Appended
from ringway.store.notices import EVERYBODY, LogNotice, VolatileNotice
from ringway.store.retained import Append

from .away import Away
from .batcher import Batcher
from .channels import Channel
from .log_reader import LogReader
from .recent import RecentRings
from .sessions import Sessions
from .wire import encode_text

Settle = Callable[[int | Unavailable | None], object]


class Delivery:
    """Routes messages of this node's clients and application, and notices of others."""

    def __init__(
        self, me: str, keys: Keys, history: RingHistory, sessions: Sessions, batcher: Batcher, reader: LogReader,
        away: Away,
    ) -> None:
        self._me, self._keys, self._history, self._sessions = me, keys, history, sessions
        self._batcher, self._reader, self._away = batcher, reader, away
        self._recent = RecentRings()
        self.groups: dict[str, Channel] = {}  # the groups with sessions here
        self.counts: Counter[str] = Counter()

    def ring_changed(self, change: Change) -> None:
        """From now on, for a while, users may be where the replaced ring has them."""
        if change.old is not None:
            self._recent.replaced(change.old, time.monotonic())

    # Out: from this node's clients and application.

    def send(
        self, sender: str, id: str, uids: Sequence[str], body: bytes, settle: Settle, *, volatile: bool = False,
        sid: str = "",
    ) -> None:
        """A message to users. `settle` gets the seq (one recipient), None, or the Unavailable; at once or later.

        Args:
            body: JSON text.
            sid: the session it comes from; empty: the application.
        """
        if volatile:
            settle(self._send_volatile(sender, id, uids, body))
        elif len(uids) == 1:
            self._append_inbox(sender, id, uids[0], body, lambda done: settle(_seq_of(done)), sid)
        else:
            gather = _Gather(len(uids), settle)
            for uid in uids:
                self._append_inbox(sender, id, uid, body, gather.one, sid)

    def publish(self, sender: str, id: str, group: str, body: bytes, settle: Settle, *, sid: str = "") -> None:
        """A message to a group; `settle` as in `send`."""

        def done(result: Appended | Unavailable) -> None:
            if isinstance(result, Appended) and (channel := self.groups.get(group)):
                self._give(channel, result)
            settle(_seq_of(result))

        self.counts["published"] += 1
        append = Append(group_log(group), sender, id, body, self._keys.group_channel(group))
        self._batcher.append(append, done, sid=sid)

    def put_back(self, result: Appended) -> None:
        """A message that Redis had lost is in its log again. Of those of groups all nodes are told, this one too."""
        kind, name = result.ch[:2], result.ch[2:]
        if kind == "u:":
            self._appended(name, result, told=result.receivers > 0)

    def broadcast(self, sender: str, id: str, body: bytes) -> Unavailable | None:
        """A volatile message to every session of the cluster; without Redis to those here, which is Unavailable."""
        self.counts["broadcast"] += 1
        frame = _volatile(EVERYBODY, id, sender, body)
        if self._batcher.publish(self._keys.all_channel, notices.encode(VolatileNotice(EVERYBODY, frame))):
            return None
        self._to_all(encode_text(frame))
        return Unavailable("Redis", "the message was volatile and reached this node's sessions only")

    def _append_inbox(
        self, sender: str, id: str, uid: str, body: bytes, done: Callable[[Appended | Unavailable], object], sid: str
    ) -> None:
        owner = self._owner(uid)
        notify = None if owner is None or owner == self._me else self._keys.node_channel(owner)

        def appended(result: Appended | Unavailable) -> None:
            if isinstance(result, Appended):
                self._appended(uid, result, told=notify is not None and result.receivers > 0)
            done(result)

        self.counts["sent"] += 1
        self._batcher.append(Append(inbox(uid), sender, id, body, notify), appended, sid=sid)

    def _appended(self, uid: str, result: Appended, *, told: bool) -> None:
        """In the log: to the sessions here, and on to others if nobody else does it. `told`: the owner knows."""
        user = self._sessions.get(uid)
        if user is not None:
            self._give(user.inbox, result)
        if not told and not result.duplicate:
            notice = LogNotice(result.ch, result.gen, result.seq, result.frame, forwarded=True)
            self._pass_on(uid, notices.encode(notice), here=user is not None)

    def _give(self, channel: Channel, result: Appended) -> None:
        """To the sessions here. They may lack a duplicate too: the first answer was lost, and with it the frame."""
        if not result.duplicate:
            self._offer(channel, result.gen, result.seq, result.frame)
        elif channel.lacks(Position(result.gen, result.seq)):
            self._reader.pull(channel)

    def _send_volatile(self, sender: str, id: str, uids: Sequence[str], body: bytes) -> Unavailable | None:
        """At most once: to the sessions here, else straight to the owner's channel."""
        self.counts["volatile"] += len(uids)
        reached = True
        for uid in uids:
            frame = _volatile(inbox(uid), id, sender, body)
            user, owner = self._sessions.get(uid), self._owner(uid)
            if user is not None:
                user.inbox.send(encode_text(frame))
                continue
            notice = notices.encode(VolatileNotice(inbox(uid), frame, forwarded=owner == self._me))
            if owner == self._me:
                self._pass_on(uid, notice, here=False)
            elif owner is not None:
                reached &= self._batcher.publish(self._keys.node_channel(owner), notice)
        return None if reached else Unavailable("Redis", "the message was volatile and is lost")

    # In: notices of other nodes and of back ends.

    def arrived(self, notice: LogNotice | VolatileNotice, data: bytes) -> None:
        """A notice from pub/sub. Args: data: the notice as it came."""
        kind, name = notice.ch[:2], notice.ch[2:]
        if kind == "g:":
            channel = self.groups.get(name)
            if channel is not None:
                self._take(channel, notice)
        elif kind == "u:":
            user = self._sessions.get(name)
            if user is not None:
                self._take(user.inbox, notice)
            if not notice.forwarded:
                self._pass_on(name, notices.forwarded(data), here=user is not None)
        elif notice.ch == EVERYBODY:
            self._to_all(encode_text(notice.frame))

    def _take(self, channel: Channel, notice: LogNotice | VolatileNotice) -> None:
        if isinstance(notice, LogNotice):
            self._offer(channel, notice.gen, notice.seq, notice.frame)
        else:
            channel.send(encode_text(notice.frame))

    def _offer(self, channel: Channel, gen: str, seq: int, frame: bytes) -> None:
        if not channel.offer(gen, seq, encode_text(frame)):
            self._reader.pull(channel)

    def _to_all(self, wire: bytes) -> None:
        for session in self._sessions:
            session.send_frame(wire)

    def _pass_on(self, uid: str, notice: bytes, *, here: bool) -> None:
        """To the other nodes on which the user may be: before and after a ring change, and by an away record."""
        others = self._elsewhere(uid)
        for node in others:
            self.counts["forwarded"] += 1
            self._batcher.publish(self._keys.node_channel(node), notice)
        if not here:
            self._away.forward(uid, notice, besides=others)

    def _elsewhere(self, uid: str) -> set[str]:
        others = self._recent.owners(uid, time.monotonic())
        if others and (owner := self._owner(uid)) is not None:
            others.add(owner)
        others.discard(self._me)
        return others

    def _owner(self, uid: str) -> str | None:
        view = self._history.current
        if view is None:
            return None
        try:
            return view.ring.owner(uid)
        except NoActiveMember:
            return None


class _Gather:
    """One outcome for a message to several: the Unavailable if there was one."""

    __slots__ = ("_left", "_settle", "_worst")

    def __init__(self, count: int, settle: Settle) -> None:
        self._left, self._settle = count, settle
        self._worst: Unavailable | None = None

    def one(self, result: Appended | Unavailable) -> None:
        if isinstance(result, Unavailable):
            self._worst = result
        self._left -= 1
        if not self._left:
            self._settle(self._worst)


def _seq_of(result: Appended | Unavailable) -> int | Unavailable:
    return result.seq if isinstance(result, Appended) else result


def _volatile(ch: str, id: str, sender: str, body: bytes) -> bytes:
    return volatile_msg(ch=ch, id=id, sender=sender, body=orjson.Fragment(body), ts=int(time.time() * 1000))
