"""Where a client is in each channel. Pure.

Two places a channel: what has been taken from the wire (for dropping duplicates and for resuming on the next
connection) and what the application has finished with (for `ack` and for keeping across a restart).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from ringway.core.errors import InvalidFrame
from ringway.core.frames import Position

RETIRED = 4  # former incarnations remembered for each channel, against late frames of an old connection


class PositionStore(Protocol):
    """Keeps positions across a restart of the process. Values are `gen:seq`."""

    def load(self) -> Mapping[str, str]:
        """What was saved last; empty at first."""

    def save(self, positions: Mapping[str, str]) -> None:
        """Called with all channels soon after a join and after the application has had messages, and on close."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of a channel are gone for good: the log no longer reaches back to where the client was.

    `had` is the last place (None: the user's read cursor), `gen` and `oldest` where it goes on.
    """

    ch: str
    had: Position | None
    gen: str
    oldest: int


class Verdict(StrEnum):
    """What to do with a message by its place in the channel."""

    NEW = "new"
    OLD = "old"  # had already: drop it
    AHEAD = "ahead"  # something is missing before it: ask again from where we are
    EARLY = "early"  # before the answer to where we asked from: drop it, it comes again


class Positions:
    """Positions by channel (`u:<uid>` or `g:<group>`)."""

    def __init__(self, saved: Mapping[str, str] | None = None) -> None:
        self._taken: dict[str, Position] = {}
        self._loose: set[str] = set()  # channels whose start is the server's count, not a frame we saw
        self._retired: dict[str, dict[str, int]] = {}  # former incarnations, and how far we were in each
        self._given: dict[str, Position] = {}  # the last that the application got
        self._passed: dict[str, Position] = {}  # the last after it that it did not get, since it had it already
        self._finished: dict[str, Position] = {}
        self._unacked: set[str] = set()
        self._acked: set[str] = set()
        self._doubted: dict[str, Position] = {}  # where a message did not follow
        self._asked: dict[str, Position] = {}  # joined from this place of ours, not answered yet
        self._early: set[str] = set()  # of these: something was dropped meanwhile
        self._unsaved = False  # there is a place to keep, and nothing to acknowledge with it
        for ch, text in (saved or {}).items():
            self._restore(ch, text)

    def _restore(self, ch: str, text: str) -> None:
        try:
            self._taken[ch] = self._given[ch] = self._finished[ch] = Position.parse(text)
        except InvalidFrame:  # a damaged store must not keep the client from starting: the server's cursor is there
            self._taken.pop(ch, None)

    def at(self, ch: str) -> Position | None:
        """The last place taken from the wire."""
        return self._taken.get(ch)

    def channels(self) -> list[str]:
        """Those with a place."""
        return list(self._taken)

    def ask(self, ch: str) -> Position | None:
        """The place from which the client joins the channel now, if it has one.

        A node joins members of a group by itself, from where the user has read on any device, before it hears of our
        place. So its own answer is not the one to us, which has the place that we asked from; and until that comes no
        message is taken: all after our place come again behind it. (Those before it may be of another incarnation.)
        """
        at = self._taken.get(ch)
        if at is not None:
            self._asked[ch] = at
        return at

    def asked(self, ch: str) -> bool:
        """Whether the answer to `ask` is still to come."""
        return ch in self._asked

    def refused(self, ch: str) -> bool:
        """There will be no answer to `ask`. Returns whether anything was dropped while waiting for it."""
        was_early = ch in self._early
        self._no_longer_asked(ch)
        return was_early

    def _no_longer_asked(self, ch: str) -> None:
        self._asked.pop(ch, None)
        self._early.discard(ch)

    def start(self, ch: str, position: Position) -> None:
        """The application wants everything after this place, whatever it has had."""
        self._taken.pop(ch, None)
        self._retired.pop(ch, None)
        self._place(ch, position)

    def answered(self, ch: str, answer: Mapping[str, Any]) -> Gap | None:
        """Heed `welcome` (its inbox) or `joined`: {gen, seq, unread?, recovered, oldest?, from?}.

        Returns the gap, if any.
        """
        asked = self._asked.get(ch)
        if answer.get("from") != (None if asked is None else asked._asdict()):
            return None
        self._no_longer_asked(ch)
        gen, head = str(answer["gen"]), int(answer["seq"])
        start = max(0, head - int(answer.get("unread") or 0))
        had = self._taken.get(ch)
        if not answer.get("recovered", True):
            return self._cut(ch, had, gen, head, int(answer.get("oldest") or head + 1))
        if had is None or had.gen != gen:
            self._place(ch, Position(gen, start))
            self._loose.add(ch)
        if had is None and start == head:  # to go on from here after a restart, though no message comes before it
            self._given[ch] = self._finished[ch] = self._taken[ch]
            self._unsaved = True
        return None

    def _cut(self, ch: str, had: Position | None, gen: str, head: int, oldest: int) -> Gap | None:
        """The log begins at `oldest`: a gap, unless we are further already."""
        if had is not None and had.gen == gen and oldest - 1 <= had.seq <= head:
            return None
        floor = had.seq if had and had.gen == gen else 0
        self._place(ch, Position(gen, max(floor, oldest - 1)))
        return Gap(ch, had, gen, oldest)

    def continues(self, ch: str, frame: Mapping[str, Any]) -> Gap | None:
        """Heed `position`: the log goes on after this place, in a new incarnation or behind a loss."""
        gen, seq, recovered = str(frame["gen"]), int(frame["seq"]), frame.get("recovered", True)
        had = self._taken.get(ch)
        if gen in self._retired.get(ch, {}) or ch in self._asked:  # the answer will say it, from our place
            return None
        if had is None or had.gen != gen:
            self._place(ch, Position(gen, seq))
            if recovered and ch in self._given:
                self._pass(ch)
        elif not recovered:
            self._place(ch, Position(gen, max(had.seq, seq)))
        return None if recovered else Gap(ch, had, gen, int(frame.get("oldest") or seq + 1))

    def take(self, ch: str, gen: str, seq: int, was: Mapping[str, Any] | None = None) -> tuple[Verdict, Gap | None]:
        """What to do with a message.

        Ahead of the answer to `ask` nothing is taken.
        One that does not follow the last is not taken at first: a new connection asks for what is between. If it
        comes again right after the same place, nothing is between any more, and it is taken with the gap before it.
        `was` is the place it had in an incarnation that Redis lost, before it was appended again
        (docs/decisions/0030-redis-restarts.md): we may have had it there.
        """
        had = self._taken.get(ch)
        if gen in self._retired.get(ch, {}) or (had is not None and had.gen == gen and seq <= had.seq):
            return Verdict.OLD, None
        if ch in self._asked:
            self._early.add(ch)
            return Verdict.EARLY, None
        gap = None
        follows = had is None or (had.gen, had.seq + 1) == (gen, seq)
        if had is not None and not follows and ch not in self._loose:
            if self._doubted.get(ch) != had:
                self._doubted[ch] = had
                return Verdict.AHEAD, None
            gap = Gap(ch, had, gen, seq)
        self._place(ch, Position(gen, seq))
        if was is not None and self._retired.get(ch, {}).get(was["gen"], -1) >= was["seq"]:
            self._pass(ch)
            return Verdict.OLD, gap
        self._given[ch] = self._taken[ch]
        self._passed.pop(ch, None)
        return Verdict.NEW, gap

    def _pass(self, ch: str) -> None:
        """The application is not given what is in this place, for it has had it: it is finished with the last that was
        given, or would stay unread for ever."""
        self._passed[ch] = self._taken[ch]
        given = self._given.get(ch)
        if self._finished.get(ch) == given:
            self._finish(ch, given)

    def _place(self, ch: str, position: Position) -> None:
        had = self._taken.get(ch)
        if had is not None and had.gen != position.gen:
            retired = {**self._retired.get(ch, {}), had.gen: had.seq}
            self._retired[ch] = dict(list(retired.items())[-RETIRED:])
        self._taken[ch] = position
        self._loose.discard(ch)
        self._doubted.pop(ch, None)

    def finish(self, ch: str, gen: str, seq: int) -> None:
        """The application is done with everything up to here. Of a channel that it has left, that says nothing."""
        if ch in self._taken:
            self._finish(ch, Position(gen, seq))

    def _finish(self, ch: str, place: Position | None) -> None:
        if place == self._given.get(ch) and ch in self._passed:
            place = self._given[ch] = self._passed.pop(ch)
        had = self._finished.get(ch)
        if place is not None and (had is None or self._order(ch, place) > self._order(ch, had)):
            self._finished[ch] = place
            self._unacked.add(ch)

    def _order(self, ch: str, place: Position) -> tuple[int, int]:
        """Of two places in a channel the later one has the greater."""
        gens = [*self._retired.get(ch, {}), self._taken[ch].gen]
        return gens.index(place.gen) if place.gen in gens else -1, place.seq

    @property
    def due(self) -> bool:
        """Whether there is anything to acknowledge or to keep now."""
        return bool(self._unacked) or self._unsaved

    def acks(self) -> list[tuple[str, Position]]:
        """What to acknowledge now: one place a channel, each reported once."""
        due = [(ch, self._finished[ch]) for ch in sorted(self._unacked)]
        self._acked |= self._unacked
        self._unacked.clear()
        self._unsaved = False
        return due

    def ack_again(self) -> None:
        """On a new connection: an ack has no ok, so the last one of each channel may be lost."""
        self._unacked |= self._acked

    def forget(self, ch: str) -> None:
        """The client left the channel."""
        self._no_longer_asked(ch)
        for places in (self._taken, self._given, self._passed, self._finished, self._retired, self._doubted):
            places.pop(ch, None)
        for channels in (self._loose, self._unacked, self._acked):
            channels.discard(ch)

    def saved(self) -> dict[str, str]:
        """What a PositionStore keeps."""
        return {ch: str(position) for ch, position in self._finished.items()}
