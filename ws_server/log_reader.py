"""Reads logs for sessions that catch up and for channels that met a gap, many in one pipeline.

While Redis is away the reads wait for it; nobody loses its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from ringway.core import frames
from ringway.core.close_codes import CloseCode, reason_text
from ringway.core.errors import Unsettled
from ringway.core.frames import Position
from ringway.store import cursors
from ringway.store.arrivals import UNREAD, Arrival
from ringway.store.client import Client
from ringway.store.keys import Keys
from ringway.store.log import Entries, MessageLog

from .channels import CatchUp, Channel, Step, start_of
from .doubts import Doubt, Doubts
from .lanes import Lane
from .redis_link import AWAY, RedisLink
from .sessions import Session
from .wire import encode_text

log = logging.getLogger(__name__)

PAGE = 128  # messages a read
ARRIVAL_BATCHES = 2  # of users, with Redis at the same time
SWEEP = 100  # channels compared in one pipeline: more would hold up the event loop for milliseconds


class LogPage(NamedTuple):
    """What a read found, framed for the wire. `pending` and `doubtful` are as in `Entries`.

    `groups` are those the user belongs to for good; only the first page of an inbox has them.
    """

    gen: str
    seq: int
    recovered: bool
    frames: Sequence[tuple[int, bytes]]
    more: bool
    oldest: int
    pending: int
    groups: Sequence[str] = ()
    doubtful: bool = False

    @classmethod
    def of(cls, entries: Entries, *, head_only: bool = False, groups: Sequence[str] = ()) -> LogPage:
        """From the store's answer; `head_only`: for one who wants nothing of what is there."""
        if head_only:
            return cls(entries.gen, entries.seq, True, (), False, entries.oldest, 0)
        wired = [(seq, encode_text(frame)) for seq, frame in entries.frames]
        gen, seq, oldest, recovered, _frames, more, pending, doubtful = entries
        return cls(gen, seq, recovered, wired, more, oldest, pending, groups, doubtful)

    def position_frame(self, ch: str, seq: int) -> bytes:
        oldest = None if self.recovered else seq + 1
        return encode_text(frames.position(ch=ch, gen=self.gen, seq=seq, recovered=self.recovered, oldest=oldest))


Opening = Callable[[LogPage | None], bool]
"""Says to a session where it is; with None, that Redis is away. Returns whether it has said all there is to say."""


class Unread(NamedTuple):
    """Stands for a position: where the user's read cursor is."""

    uid: str


class Head(NamedTuple):
    """Stands for a position: nothing of what is in the log now."""


class _Read(NamedTuple):
    """`session` None: for the channel itself. `arrival`: a session's first read of its inbox; all that is wanted of
    Redis for it comes in one answer."""

    channel: Channel
    session: Session | None
    after: Position | Unread | Head | None
    opening: Opening | None = None
    catch_up: CatchUp | None = None
    arrival: Arrival | None = None

    @property
    def over(self) -> bool:
        """Nobody waits for it any more: the session has left, or begun once more."""
        return self.session is not None and self.channel.catching(self.session) is not self.catch_up


class LogReader:
    """Keeps sessions and channels supplied from the logs."""

    def __init__(self, log: MessageLog, client: Client, keys: Keys, link: RedisLink) -> None:
        self._log, self._client, self._keys, self._link = log, client, keys, link
        self.doubts = Doubts(log, link)
        self._reads: Lane[_Read] = Lane("reading logs", self._work, batch=256, limit=inf)
        self._arrivals: Lane[_Read] = Lane(
            "opening sessions", self._arrive, batch=256, limit=inf, workers=ARRIVAL_BATCHES
        )
        self._parked: list[_Read] = []
        self._slow: dict[Session, set[Channel]] = {}
        self.pulls = 0  # gaps that had to be read
        link.on_again(self._unpark)

    def start(self) -> None:
        self._reads.start()
        self._arrivals.start()

    def stop(self) -> None:
        self._reads.stop()
        self._arrivals.stop()
        self.doubts.stop()

    def catch_up(
        self, session: Session, channel: Channel, after: Position | Unread | Head | None, opening: Opening
    ) -> None:
        """Bring a session into a channel: history after a position, then live.

        `opening` is called before the first message, with the first page, and before that with None if Redis is
        away; then the rest comes when it is back.
        """
        arrival = None
        if channel is session.user.inbox:
            arrival = Arrival(session.uid, after if isinstance(after, Position) else UNREAD)
        self._put(_Read(channel, session, after, opening, channel.join(session), arrival))

    def pull(self, channel: Channel) -> None:
        """Something between a channel's position and now is missing: read it. Once is enough, however often asked."""
        if not channel.pulling and channel.position is not None:
            channel.pulling = True
            self.pulls += 1
            self._put(_Read(channel, None, channel.position))

    def sweep(self, channels: Sequence[Channel]) -> None:
        """Compare positions with the logs and pull where they differ. Blocks; quiet when Redis is away."""
        for start in range(0, len(channels), SWEEP):
            part = [channel for channel in channels[start : start + SWEEP] if channel.position is not None]
            try:
                heads = self._log.heads([channel.ch for channel in part])
            except AWAY as error:
                self._link.lost(error)
                return
            for channel, head in zip(part, heads, strict=True):
                if head is not None and head != channel.position:
                    self.pull(channel)

    def _put(self, read: _Read) -> None:
        if self._link.up:
            (self._reads if read.arrival is None else self._arrivals).put(read)
        else:
            self._park(read)

    def _park(self, read: _Read) -> None:
        if read.opening is not None and not read.over and read.opening(None):
            read = read._replace(opening=None, arrival=None)
        self._parked.append(read)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        for read in parked:
            if read.session is not None or read.channel:
                self._put(read)
            else:
                read.channel.pulling = False

    def _work(self, reads: list[_Read]) -> None:
        todo = reads
        try:
            todo = self._with_cursors(todo)
            for round_ in _rounds(todo):
                self._read(round_)
                done = {id(read) for read in round_.values()}
                todo = [read for read in todo if id(read) not in done]
        except AWAY as error:
            self._failed(todo, error, self._work)

    def _arrive(self, reads: list[_Read]) -> None:
        """The first reads of sessions that have just opened."""
        arrivals = [read.arrival for read in reads if read.arrival is not None]
        try:
            found = self._log.arrive(arrivals, PAGE)
        except AWAY as error:
            self._failed(reads, error, self._arrive)
            return
        for read, (entries, groups) in zip(reads, found, strict=True):
            self._page(read, LogPage.of(entries, groups=groups))

    def _failed(self, reads: list[_Read], error: BaseException, work: Callable[[list[_Read]], None]) -> None:
        """They wait for Redis; but where only a slot is on its way to another server, the others need not."""
        if isinstance(error, Unsettled) and len(reads) > 1:
            for read in reads:
                work([read])
            return
        self._link.lost(error)
        if isinstance(error, Unsettled):
            self._parked += reads
            return
        for read in reads:
            self._park(read)

    def _with_cursors(self, reads: list[_Read]) -> list[_Read]:
        wanted = [(read.after.uid, read.channel.ch) for read in reads if isinstance(read.after, Unread)]
        if not wanted:
            return reads
        found = iter(cursors.read_many(self._client, self._keys, wanted))
        return [read._replace(after=next(found)) if isinstance(read.after, Unread) else read for read in reads]

    def _read(self, round_: dict[str, _Read]) -> None:
        for own in (True, False):
            after = {ch: read.after for ch, read in round_.items() if (read.session is None) is own}
            positions = {ch: at if isinstance(at, Position) else None for ch, at in after.items()}
            if positions:
                for ch, entries in self._log.read_many(positions, PAGE, own=own).items():
                    self._found(round_[ch], entries)

    def _found(self, read: _Read, entries: Entries) -> None:
        self._page(read, LogPage.of(entries, head_only=isinstance(read.after, Head)))

    def _page(self, read: _Read, page: LogPage) -> None:
        """What a read found goes where it belongs. What fails here concerns no other read of the pipeline."""
        try:
            self._take(read, page)
        except AWAY as error:
            self._link.lost(error)
            self._park(read)
        except Exception:
            log.exception("what was read of %s for %s could not be given", read.channel.ch, read.session)
            if read.session is not None:  # it would wait for ever
                read.session.conn.close(CloseCode.NODE_ERROR, reason_text(), "reading failed")

    def _take(self, read: _Read, page: LogPage) -> None:
        if page.doubtful and not read.over and (after := self._asked_after(read)) is not None:
            self.doubts.add(Doubt(read.channel, read.session, after))
        if read.session is None:
            self._pulled(read, page)
        elif not read.over:
            self._open(read, read.session, page)
            self._follow(read.session, read.channel, read.channel.page(read.session, page))

    def _asked_after(self, read: _Read) -> Position | None:
        if isinstance(read.after, Unread):
            return cursors.read_many(self._client, self._keys, [(read.after.uid, read.channel.ch)])[0]
        return read.after if isinstance(read.after, Position) else None

    def _open(self, read: _Read, session: Session, page: LogPage) -> None:
        if read.opening is not None:
            read.opening(page)
        elif read.channel.reached(session) is None:  # welcomed while Redis was away: now it can be told
            session.send_frame(page.position_frame(read.channel.ch, start_of(page)))

    def _pulled(self, read: _Read, page: LogPage) -> None:
        channel = read.channel
        channel.pulling = False
        assert isinstance(read.after, Position)
        if channel.has_moved(read.after, page) or channel.pulled(page) is Step.READ:
            self.pull(channel)
            return
        for sink in channel.waiting():
            assert isinstance(sink, Session)
            self._follow(sink, channel, channel.advance(sink))

    def _follow(self, session: Session, channel: Channel, step: Step) -> None:
        if step is Step.READ:
            self._put(_Read(channel, session, channel.reached(session), None, channel.catching(session)))
        elif step is Step.PULL:
            self.pull(channel)
        elif step is Step.SLOW:
            waiting = self._slow.setdefault(session, set())
            waiting.add(channel)
            session.conn.when_drained(lambda: self._drained(session))

    def _drained(self, session: Session) -> None:
        """The slow reader has taken what was queued; a session that has ended is GONE from its channels by then."""
        for channel in self._slow.pop(session, ()):
            self._follow(session, channel, channel.advance(session))


def _rounds(reads: list[_Read]) -> Iterator[dict[str, _Read]]:
    """The reads such that no channel comes twice in a round."""
    while reads:
        round_: dict[str, _Read] = {}
        later = []
        for read in reads:
            if round_.setdefault(read.channel.ch, read) is not read:
                later.append(read)
        yield round_
        reads = later
