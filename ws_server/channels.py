"""One log as this node sees it: the position up to which its sessions have been served, and who listens. Pure.

A message with seq = position + 1 is passed on, an older one is dropped, a later one means a gap that has to be read
from the log. A session that joins catches up by reading first and becomes live when it has met the channel's position;
what arrives meanwhile is held for it. So each session gets each message once and in order, however reads and notices
interleave.

A log goes on under another `gen` when Redis came back as another process; `gen`s sort by age as text (store/open.lua).
Sessions are told by a `position` frame before the first message of the new one, and whether anything is missing. Where
a Redis that was wiped has a clock that is behind, its new gen sorts before the old one. So the order of gens decides
about nothing but notices, and only until the log is asked: what a read says is the log.

`wire` is a message framed for the WebSocket, made once for all sessions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from ringway.core.frames import Position

HELD_LIMIT = 512  # messages held for one that catches up, or ahead of a gap; beyond that the log is read again


class Sink(Protocol):
    """What a channel needs of a session."""

    def send_frame(self, wire: bytes) -> None: ...

    def room(self) -> int: ...


class Page(Protocol):
    """One answer of the log: messages after a position, in order; `more` if the log has further ones.

    Something before the first of them is missing where `recovered` is False.
    """

    @property
    def gen(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def recovered(self) -> bool: ...
    @property
    def frames(self) -> Sequence[tuple[int, bytes]]: ...
    @property
    def more(self) -> bool: ...
    def position_frame(self, ch: str, seq: int) -> bytes:
        """Tells a session, on the wire, that it is at `seq` of this page's `gen` now."""


class Step(Enum):
    """What a session that catches up needs next."""

    LIVE = "live"
    READ = "read"  # the log after its position
    SLOW = "slow"  # room in its outgoing queue
    PULL = "pull"  # that the channel itself reads the log
    GONE = "gone"  # nothing: it has left


class CatchUp:
    """A session on its way to live: what it has, what of the log waits to be sent, what arrived meanwhile."""

    __slots__ = ("at", "held", "more", "overrun", "todo", "waiting")

    def __init__(self) -> None:
        self.at: Position | None = None
        self.todo: deque[tuple[int, bytes]] = deque()
        self.held: list[tuple[int, bytes]] = []
        self.more = False
        self.overrun = False  # more arrived than is held: read the log once more
        self.waiting = False  # has all of the log; the channel is behind

    def holds_from(self, seq: int) -> bool:
        """Whether everything from here on, up to where the channel is, is held."""
        return bool(self.held) and self.held[0][0] <= seq

    def hold(self, seq: int, wire: bytes) -> None:
        if len(self.held) >= HELD_LIMIT:
            self.overrun = True
            self.held.clear()
        if not self.overrun:
            self.held.append((seq, wire))


class Channel:
    """Position and listeners of one log. `gen` is None while no session has caught up."""

    __slots__ = ("_catching", "_early", "ch", "gen", "live", "pulling", "seq")

    def __init__(self, ch: str) -> None:
        self.ch = ch
        self.gen: str | None = None
        self.seq = 0
        self.live: dict[Sink, None] = {}
        self.pulling = False  # a read for the channel is under way; kept by whoever reads
        self._catching: dict[Sink, CatchUp] | None = None
        self._early: dict[Position, bytes] | None = None

    @property
    def position(self) -> Position | None:
        return None if self.gen is None else Position(self.gen, self.seq)

    @property
    def sinks(self) -> list[Sink]:
        return [*self.live, *(self._catching or ())]

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self.live or self._catching)

    def __contains__(self, sink: Sink) -> bool:
        return sink in self.live or sink in (self._catching or ())

    def join(self, sink: Sink) -> CatchUp:
        """A session begins to catch up, or begins once more. Everything that arrives from now on is held for it.

        The answer tells reads for this catch-up from those for one before it (`catching`).
        """
        self.live.pop(sink, None)
        if self._catching is None:
            self._catching = {}
        catch_up = self._catching[sink] = CatchUp()
        return catch_up

    def catching(self, sink: Sink) -> CatchUp | None:
        """The session's catch-up under way, if any."""
        return self._catching.get(sink) if self._catching else None

    def leave(self, sink: Sink) -> None:
        """The session is gone; with the last one the position is forgotten too."""
        self.live.pop(sink, None)
        if self._catching is not None and self._catching.pop(sink, None) is not None and not self._catching:
            self._catching = None
        if not self:
            self.gen, self.seq, self._early = None, 0, None

    def send(self, wire: bytes) -> None:
        """Pass on a message that is in no log."""
        for sink in self.sinks if self._catching else self.live.copy():
            sink.send_frame(wire)

    def offer(self, gen: str, seq: int, wire: bytes) -> bool:
        """A message of the log has arrived. False: something before it is missing, read the log."""
        if gen == self.gen:
            if seq == self.seq + 1:
                self._emit(seq, wire)
                return self._early is None or self._use_early()
            if seq <= self.seq:
                return True
        elif self.gen is not None and gen < self.gen:
            return False  # of an incarnation that is over, or the log began anew, with a clock that is behind: ask it
        if self._early is None:
            self._early = {}
        if len(self._early) >= HELD_LIMIT:
            del self._early[next(iter(self._early))]  # the newest is kept: it shows that there is a gap
        self._early[Position(gen, seq)] = wire
        return self.gen is None

    def lacks(self, at: Position) -> bool:
        """Whether what is at this position in the log has not come here yet."""
        return self.gen is not None and at > (self.gen, self.seq)

    def page(self, sink: Sink, page: Page) -> Step:
        """A page of the log for a session that catches up."""
        catch_up = self.catching(sink)
        if catch_up is None:
            return Step.GONE
        start = start_of(page)
        if catch_up.at is not None and (page.gen != catch_up.at.gen or not page.recovered):
            sink.send_frame(page.position_frame(self.ch, start))
        catch_up.todo.extend(page.frames)
        catch_up.more = page.more
        catch_up.at = Position(page.gen, start)
        return self.advance(sink)

    def advance(self, sink: Sink) -> Step:
        """Send what the session's queue has room for, and say what it needs next."""
        catch_up = self.catching(sink)
        if catch_up is None or catch_up.at is None:
            return Step.GONE
        if catch_up.todo:
            seq = catch_up.at.seq
            while catch_up.todo and sink.room() > 0:
                seq, wire = catch_up.todo.popleft()
                sink.send_frame(wire)
            catch_up.at = Position(catch_up.at.gen, seq)
            if catch_up.todo:
                return Step.SLOW
        if catch_up.more or catch_up.overrun:
            catch_up.overrun = False  # what arrives from now on is held again, and the read covers what was not
            return Step.READ
        return self._meet(sink, catch_up, catch_up.at)

    def waiting(self) -> list[Sink]:
        """The sessions that `advance` can bring on now that the channel has read the log."""
        return [sink for sink, catch_up in (self._catching or {}).items() if catch_up.waiting]

    def reached(self, sink: Sink) -> Position | None:
        """Where a session that catches up is: its next page begins after it."""
        catch_up = self.catching(sink)
        return catch_up.at if catch_up else None

    def place(self, sink: Sink) -> Position | None:
        """Up to where the session has been served; None: not known yet."""
        return self.position if sink in self.live else self.reached(sink)

    def is_being_placed(self, sink: Sink) -> bool:
        """Whether the session has joined and its place in the log is not known yet."""
        catch_up = self.catching(sink)
        return catch_up is not None and catch_up.at is None

    def has_given(self, sink: Sink, at: Position) -> bool:
        """Whether the session may have had the message at this position; True while that is not known yet."""
        known = self.reached(sink) or self.position
        return known is None or at <= known

    def has_moved(self, asked: Position, page: Page) -> bool:
        """Whether a page that was asked for after a position says nothing about the channel any more.

        Its incarnation is another one by now; or late notices of the old one have moved it on, and the page is of the
        new one.
        """
        return asked.gen != self.gen or (page.gen != self.gen and asked != self.position)

    def pulled(self, page: Page) -> Step:
        """A page of the log after the channel's own position: LIVE (in step again) or READ (there is more)."""
        if self.gen is None:
            return Step.GONE
        if page.gen != self.gen or not page.recovered:
            self._turn(page)
        for seq, wire in page.frames:
            if seq == self.seq + 1:
                self._emit(seq, wire)
        in_step = self._forget_others() and self._use_early()
        return Step.LIVE if in_step and not page.more else Step.READ

    def _forget_others(self) -> bool:
        """Drop what came ahead under another gen than the log has; False if there was any: look once more.

        It is gone with its incarnation, or of one that began since the log was asked: then the next read has it.
        """
        early = self._early or {}
        self._early = {at: wire for at, wire in early.items() if at.gen == self.gen} or None
        return len(self._early or ()) == len(early)

    def _turn(self, page: Page) -> None:
        """The log goes on as another incarnation, or behind a loss: say so to the live ones; the others read it."""
        for catch_up in (self._catching or {}).values():
            catch_up.held.clear()
        self.gen, self.seq = page.gen, start_of(page)  # lower than before where Redis lost what we have passed on
        wire = page.position_frame(self.ch, self.seq)
        for sink in tuple(self.live):
            sink.send_frame(wire)

    def _emit(self, seq: int, wire: bytes) -> None:
        self.seq = seq
        for sink in self.live.copy() if len(self.live) > 1 else tuple(self.live):
            sink.send_frame(wire)
        if self._catching:
            for catch_up in self._catching.values():
                catch_up.hold(seq, wire)

    def _use_early(self) -> bool:
        """Pass on what had come ahead of a gap; True if nothing is left of it."""
        early, self._early = self._early or {}, None
        for position in sorted(early):
            if position == (self.gen, self.seq + 1):
                self._emit(position.seq, early[position])
        left = {at: wire for at, wire in early.items() if at > (self.gen or "", self.seq)}
        self._early = left or None
        return not left

    def _meet(self, sink: Sink, catch_up: CatchUp, at: Position) -> Step:
        """The session has all that its reads gave: make it live where the channel stands, or wait for the channel."""
        if self.gen is None:
            self.gen, self.seq = at
        if at.gen != self.gen:  # one of the two has not heard that the log began anew: first the channel looks
            catch_up.waiting = not catch_up.waiting
            return Step.PULL if catch_up.waiting else Step.READ
        if at.seq > self.seq:
            catch_up.waiting = True
            return Step.PULL
        if at.seq < self.seq and not catch_up.holds_from(at.seq + 1):
            return Step.READ  # a later page of another session came before this one's, and brought the channel on
        self._go_live(sink, catch_up, at.seq)
        return Step.LIVE if self._early is None or self._use_early() else Step.PULL

    def _go_live(self, sink: Sink, catch_up: CatchUp, seq: int) -> None:
        assert self._catching is not None
        del self._catching[sink]
        if not self._catching:
            self._catching = None
        self.live[sink] = None
        for held, wire in catch_up.held:
            if held > seq:
                sink.send_frame(wire)


def start_of(page: Page) -> int:
    """The seq after which the page's messages begin."""
    return page.frames[0][0] - 1 if page.frames else page.seq
