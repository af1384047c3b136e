"""Everything that this node writes to Redis for its sessions: what gathers while one pipeline is out is the next one.

Nothing here blocks the caller. While Redis is away an append is refused in its turn (the sender is told, and keeps the
message), a notice is dropped (it is volatile), and read cursors are kept for later. Those of the last seconds are
written again when Redis is back, since a power failure takes them too and nobody would ack again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from math import inf
from typing import Any, NamedTuple

import gevent

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.store import cursors
from ringway.store.client import Client
from ringway.store.keys import Keys
from ringway.store.log import Appended, MessageLog
from ringway.store.pubsub import publish_many
from ringway.store.retained import WINDOW_S, Append

from .burst import Burst
from .lanes import Lane
from .order import Order
from .redis_link import AWAY, SERVICE, RedisLink

log = logging.getLogger(__name__)

ACKS_GATHER_S = 0.1  # an ack has no answer: nobody waits for it while its session is here
FINISH_S = 0.3  # each of three lanes, at the end

Done = Callable[[Appended | Unavailable], object]
Cursor = tuple[str, str]  # uid, channel


class _Write(NamedTuple):
    append: Append
    done: Done
    sid: str
    number: int


_Result = tuple[int, Appended | Unavailable]
_Answer = tuple[_Write, Appended]


class Batcher:
    """Appends, publishes and acknowledgements, each in its own lane."""

    def __init__(self, log: MessageLog, client: Client, keys: Keys, link: RedisLink, burst: Burst) -> None:
        """Args: burst: that of the connections, for answers that come together."""
        self._log, self._client, self._keys, self._link, self._burst = log, client, keys, link, burst
        self._appends: Lane[_Write] = Lane("appending to logs", self._append)
        self._answers: Lane[list[_Answer]] = Lane("answering appends", self._answer, limit=inf)
        self._answering = 0  # groups of answers that are not given yet
        self._notices: Lane[tuple[str, bytes]] = Lane("publishing notices", self._publish)
        self._ack_turns: Lane[None] = Lane("moving read cursors", self._ack, gather_s=ACKS_GATHER_S)
        self._acks: dict[Cursor, Position] = {}
        self._acked: dict[Cursor, Position] = {}  # written since `_turned`, and in the WINDOW_S before
        self._acked_before: dict[Cursor, Position] = {}
        self._turned = 0.0
        self._order, self._numbers = Order(), count(1)
        self.dropped = 0  # notices that Redis did not take
        link.on_back(self._ack_again)
        link.on_again(lambda: self._ack_turns.put(None))
        link.on_back(lambda: gevent.spawn(self._carry_over))

    @property
    def waiting(self) -> int:
        """Appends that are not on their way yet."""
        return len(self._appends)

    def start(self) -> None:
        for lane in self._lanes():
            lane.start()

    def stop(self) -> None:
        """What waits goes its way first, for a second at most: a message that is in its log, and of which nobody was
        told, would be late. After that it is lost, and was not answered. Read cursors are written."""
        for lane in (self._appends, self._answers, self._notices):
            lane.finish(FINISH_S)
        for lane in self._lanes():
            lane.stop()
        if self._link.up:
            self._ack([])

    def _lanes(self) -> tuple[Lane[Any], ...]:
        return self._appends, self._answers, self._notices, self._ack_turns

    def append(self, append: Append, done: Done, *, sid: str = "") -> None:
        """Append to a log and call `done` with what became of it, at once if that is known already.

        Args:
            sid: the session it comes from, whose messages must not overtake each other; empty: the application.
        """
        write = _Write(append, done, sid, next(self._numbers))
        if not self._appends.put(write):
            self._refuse(write, Unavailable(SERVICE, "too many messages wait for it"))

    def publish(self, channel: str, notice: bytes) -> bool:
        """Publish something volatile; False when it is known not to go out."""
        if self._link.up and self._notices.put((channel, notice)):
            return True
        self.dropped += 1
        return False

    def ack(self, uid: str, ch: str, position: Position) -> None:
        """Move a user's read cursor; several moves of one cursor, by several devices, become the furthest of them."""
        if not self._acks:
            self._ack_turns.put(None)
        _keep(self._acks, {(uid, ch): position})

    def session_over(self) -> None:
        """A session ended: its user may come again in a moment, from where it has read."""
        self._ack_turns.hurry()

    def _append(self, writes: list[_Write]) -> None:
        """One pipeline. Who is refused is so at once, before what must not overtake it goes out."""
        writes = self._in_order(writes)
        if not self._link.up:
            for write in writes:
                self._refuse(write, self._link.unavailable())
            return
        left = len(writes)
        failed: dict[type, Unavailable] = {}

        def take(results: Sequence[_Result]) -> None:
            nonlocal left
            left -= len(results)
            failed.update({type(result): result for _, result in results if isinstance(result, Unavailable)})
            self._take(writes, results, is_last=left == 0)

        self._log.append_each([write.append for write in writes], take)
        for error in failed.values():
            self._link.lost(error)

    def _take(self, writes: list[_Write], results: Sequence[_Result], *, is_last: bool) -> None:
        """Who has an ok is told while Redis has the next messages, if there are any."""
        answers = []
        for number, result in results:
            if isinstance(result, Unavailable):
                self._refuse(writes[number], result)
            else:
                answers.append((writes[number], result))
        self._answering += 1
        if self._appends or self._answering > 1 or not is_last:
            self._answers.put(answers)
        else:
            self._answer([answers])

    def _answer(self, groups: list[list[_Answer]]) -> None:
        answers = list(chain.from_iterable(groups))
        if len(answers) > 1:
            self._burst.begin()
        for write, result in answers:
            _tell(write, result)
        self._answering -= len(groups)

    def _in_order(self, writes: list[_Write]) -> list[_Write]:
        """Those that may go now; the others are refused."""
        if not self._order:
            return writes
        now, admitted = time.monotonic(), []
        for write in writes:
            if self._order.admits(write.sid, write.append.ch, write.number, write.append.id, now):
                admitted.append(write)
            else:
                _tell(write, Unavailable(SERVICE, "an earlier message to the same channel has to be sent again first"))
        return admitted

    def _refuse(self, write: _Write, error: Unavailable) -> None:
        if write.sid:
            self._order.refused(write.sid, write.append.ch, write.number, write.append.id, time.monotonic())
        _tell(write, error)

    def _carry_over(self) -> None:
        """What Redis lost is brought back at once, not with the next message: others wait for it (doubts.py)."""
        try:
            self._log.carry_over()
        except AWAY as error:
            self._link.lost(error)

    def _publish(self, notices: list[tuple[str, bytes]]) -> None:
        try:
            publish_many(self._client, notices)
        except AWAY as error:
            self.dropped += len(notices)
            self._link.lost(error)

    def _ack(self, _turns: list[None]) -> None:
        acks, self._acks = self._acks, {}
        if not acks:
            return
        try:
            cursors.ack_many(self._client, self._keys, acks)
            self._note(acks)
        except AWAY as error:
            _keep(self._acks, acks)
            self._link.lost(error)

    def _note(self, acks: dict[Cursor, Position]) -> None:
        """Redis has them, which is not to say that its disk has."""
        now = time.monotonic()
        if now - self._turned > WINDOW_S:
            self._acked_before, self._acked, self._turned = self._acked, {}, now
        _keep(self._acked, acks)

    def _ack_again(self) -> None:
        """Cursors only go forward: what was not lost is not changed."""
        _keep(self._acks, self._acked_before)
        _keep(self._acks, self._acked)


def _tell(write: _Write, result: Appended | Unavailable) -> None:
    try:
        write.done(result)
    except Exception:
        log.exception("the answer to %s failed", write.append.id)


def _keep(positions: dict[Cursor, Position], others: Mapping[Cursor, Position]) -> None:
    """The later ones; gens sort by age."""
    for cursor, position in others.items():
        known = positions.get(cursor)
        if known is None or position > known:
            positions[cursor] = position
