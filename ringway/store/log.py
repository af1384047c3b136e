"""The log of a channel: append, and read on from a position.

A position is (gen, seq). `gen` names an incarnation of the log; it changes when Redis came back as another process,
lost the log, or let it expire. Seqs go on where the incarnation before stopped, and its positions stay good as long as
nothing after them was lost, so a clean restart of Redis costs nobody anything. What cannot be vouched for is said:
`recovered` is False. docs/decisions/0030-redis-restarts.md has the whole argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from ringway.core.errors import Unavailable, Unsettled
from ringway.core.frames import DEDUP_S, Position

from . import cursors
from .appends import AFTER_NOTHING, DUPLICATE, Ask, append_call, digest_of, in_order, places, together
from .arrivals import READ_BYTES, USERS, Arrival, arrive_calls
from .client import Client, redis_errors
from .histories import Histories
from .keys import Keys
from .limits import DAY_S, Limits, SharedLimits
from .line import Line
from .retained import WINDOW_S, Kept
from .retained import Append as Append
from .scripts import Call, Script, run_each, run_many, script

# What is remembered of a channel outlives its messages, so that a quiet week is not mistaken for a loss.
META_TTL_S = 90 * DAY_S
# So soon after a restart of Redis everybody who has had an ok from it has appended again what it lost.
GRACE_S = 3.0
_MISSING, _DOUBTFUL = 0, 2  # read_on.lua's words
_ROUNDS = 3
LOOK_S = 0.25  # while it is waited for that messages are safe
_DEFAULT = Limits()


class Appended(NamedTuple):
    """Where a message is in its log.

    `frame` is the whole `msg` frame. `duplicate`: the message was there before, under this gen and seq; `frame` is
    empty then. `receivers` counts who heard the notice: 0 means that nobody listens where it was sent (but on a Redis
    Cluster only those connected to the same server are counted).
    """

    ch: str
    id: str
    gen: str
    seq: int
    duplicate: bool
    frame: bytes
    receivers: int


class Entries(NamedTuple):
    """What a read found.

    `seq` is the log's head and `oldest` the first seq kept (head + 1: none). `recovered` is False when something
    between the position and the first of `frames` is, or may be, missing. `more`: a limit was reached; read on from
    (gen, last seq of frames). `pending` counts what is kept after the position, returned here or not. `doubtful`:
    Redis lost messages after the position, and not all of them have been appended again yet: they still may be. Read
    after the same position once more in `GRACE_S` to know.
    """

    gen: str
    seq: int
    oldest: int
    recovered: bool
    frames: list[tuple[int, bytes]]
    more: bool
    pending: int
    doubtful: bool = False


Take = Callable[[Sequence[tuple[int, Appended | Unavailable]]], object]


class _Scripts(NamedTuple):
    append: Script
    read: Script
    arrive: Script


@cache
def _scripts(limits: Limits, dedup_s: int, grace_ms: int) -> _Scripts:
    meta_ttl_s = max(META_TTL_S, 2 * limits.ttl_s)
    writing = {"CAP": limits.cap, "TTL": limits.ttl_s, "META_TTL": meta_ttl_s, "DEDUP": dedup_s}
    reading = {"META_TTL": meta_ttl_s, "GRACE_MS": grace_ms}
    return _Scripts(
        script("open.lua", "append.lua", **writing),
        script("open.lua", "read_on.lua", "read.lua", **reading),
        script("open.lua", "read_on.lua", "arrive.lua", CURSOR_TTL=cursors.TTL_S, **reading),
    )


class MessageLog:
    """The logs of one cluster. Safe for threads and greenlets.

    Args:
        limits: messages kept per channel (up to 100 more: Redis trims by blocks), and the seconds after the last one
            until they go (`dedup_s` more if that is little beside it). A node gives its own, others the nodes'.
        dedup_s: seconds, at least, for which a message id is remembered.
        grace_s: seconds after a restart of Redis in which what it lost may be appended again.
        line: connections for appends and arrivals alone; the caller closes it.
        clock: monotonic seconds.

    Attributes:
        on_put_back: called with each message that Redis had lost and that is in its log again. It must not block.
    """

    def __init__(
        self, client: Client, keys: Keys, *, limits: Limits | SharedLimits = _DEFAULT, dedup_s: int = DEDUP_S,
        grace_s: float = GRACE_S, line: Line | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.keys = client, keys
        self._clock, self._line = clock, line
        self._dedup_s, self._grace_ms = dedup_s, int(grace_s * 1000)
        self._shared = limits if isinstance(limits, SharedLimits) else None
        self._scripts = _scripts(limits if isinstance(limits, Limits) else _DEFAULT, dedup_s, self._grace_ms)
        self._histories = Histories(client, self._resend, dedup_s=dedup_s, clock=clock)
        self.on_put_back: Callable[[Appended], object] = lambda _: None

    @property
    def restarts(self) -> int:
        """How often Redis was found to have restarted or failed over."""
        return self._histories.restarts

    @property
    def resent(self) -> int:
        """Messages that had their ok, were lost by Redis, and are there again."""
        return self._histories.resent

    def append_each(self, appends: Sequence[Append], take: Take) -> None:
        """Append in this order, in one pipeline. Never raises.

        An Unavailable as a result: not known to be in the log. The same append may be tried again; its id keeps it from
        being there twice. Later ones here of the same sender to the same channel are Unavailable with it: none
        overtakes it. Unsettled: only this channel is concerned, Redis answers.

        Args:
            take: called with the numbers of some of the appends and their results, until it has had each once: those of
                a call as soon as Redis has answered it. It must not wait.
        """
        todo = list(range(len(appends)))
        try:
            self._heed_limits()
        except Unavailable as error:
            take([(number, error) for number in todo])
            return
        asks = in_order(appends)
        for _ in range(_ROUNDS):
            todo = self._append_round(asks, todo, take)
            if not todo:
                return
        take([(number, Unsettled("redis", "it restarts again and again")) for number in todo])

    def append_many(self, appends: Sequence[Append]) -> list[Appended | Unavailable]:
        """`append_each`, with all results in their order."""
        results: dict[int, Appended | Unavailable] = {}
        self.append_each(appends, results.update)
        return [results[number] for number in range(len(appends))]

    def append(self, append: Append) -> Appended:
        """Append one message. Raises Unavailable."""
        result = self.append_many([append])[0]
        if isinstance(result, Unavailable):
            raise result
        return result

    def read(self, ch: str, after: Position | None, limit: int = 256, *, own: bool = False) -> Entries:
        """What is in the log after a position, oldest first, at most `limit` messages and about 1 MiB.

        Args:
            after: None means everything that is kept; `recovered` then says whether that reaches back to the first.
            own: the position is one that this process had from the log itself, not a client's claim. If the log is
                behind it, that is proof of a loss, and everybody else will be told as well.

        Raises:
            Unavailable: Redis does not answer.
        """
        return self.read_many({ch: after}, limit, own=own)[ch]

    def read_many(
        self, positions: Mapping[str, Position | None], limit: int = 256, *, own: bool = False, create: bool = True
    ) -> dict[str, Entries]:
        """`read` for several channels in one pipeline.

        `create=False` leaves a channel without a log alone (its gen is ""); otherwise it gets one, so that there is a
        position to give to a client.
        """
        self._heed_limits()
        calls = [self._read_call(ch, after, limit, own, create) for ch, after in positions.items()]
        return {ch: _entries(reply) for ch, reply in zip(positions, self._answers(calls), strict=True)}

    def arrive(self, arrivals: Sequence[Arrival], limit: int = 256) -> list[tuple[Entries, list[str]]]:
        """For each user what the inbox holds after a position, as in `read`, and the groups the user belongs to.

        All answers together have about 1 MiB of messages; whoever comes later in a full one has `more`.

        Raises:
            Unavailable: Redis does not answer.
        """
        histories = self._histories
        calls = arrive_calls(self._scripts.arrive, self.keys, arrivals, limit,
                             users=1 if histories.sharded else USERS, home=histories.home)
        found = _all(run_many(self.client, calls, ordered=False, line=self._line))
        histories.settle([(call.keys[1], of[0][0][0].decode()) for call, of in zip(calls, found, strict=True)])
        return [(_entries(entries), [*map(bytes.decode, sorted(groups))]) for of in found for entries, groups in of]

    def carry_over(self) -> None:
        """Look whether Redis came back as another one, and append again what it lost. Raises Unavailable.

        Every call does that anyway; this is for when none comes soon.
        """
        self._look()

    def settle(self, timeout_s: float) -> None:
        """Wait until Redis cannot lose any more what it said ok to here: some 3 s after the last ok, if all is well.

        What it loses meanwhile is appended again, and waited for.

        Raises:
            Unavailable: not within this time. What may still be lost is kept; call again.
        """
        deadline = self._clock() + timeout_s
        while True:
            now, error = self._clock(), Unavailable("redis", "it may still lose what it said ok to a moment ago")
            try:
                self._histories.retained.let_go(self._look(), now - WINDOW_S)
            except Unavailable as why:
                error = why
            if not self._histories.retained:
                return
            if now >= deadline:
                raise error
            time.sleep(LOOK_S)

    def heads(self, chs: Sequence[str]) -> list[Position | None]:
        """The last position of each channel, None where there is no log; one light pipeline for sweeps.

        A sweep reads every channel whose head is not equal to its own position: a head behind it is a loss.

        Raises:
            Unavailable: Redis does not answer.
        """
        with redis_errors(), self.client.pipeline(transaction=False) as pipe:
            for ch in chs:
                pipe.hmget(self.keys.meta(ch), "g", "s")
            replies = pipe.execute()
        return [Position(gen.decode(), int(seq)) if gen else None for gen, seq in replies]

    def ack(self, uid: str, ch: str, gen: str, seq: int) -> bool:
        """Move the user's read cursor forward; False where it was there already. Raises Unavailable."""
        return cursors.ack(self.client, self.keys, uid, ch, Position(gen, seq))

    def cursor(self, uid: str, ch: str) -> Position | None:
        """Up to where the user has read; None: nothing. Raises Unavailable."""
        return cursors.read(self.client, self.keys, uid, [ch])[0]

    def unread(self, uid: str, chs: Sequence[str]) -> list[int]:
        """For each channel the number of kept messages after the user's cursor. Raises Unavailable."""
        after = dict(zip(chs, cursors.read(self.client, self.keys, uid, chs), strict=True))
        found = self.read_many(after, 0, create=False)
        return [found[ch].pending for ch in chs]

    def _look(self) -> set[str]:
        """The replication ids that have what is kept here; what others lost is appended again. Raises Unavailable."""
        chs = self._histories.retained.channels()
        asked = chs if self._histories.sharded else chs[:1]
        replies = self._answers([self._read_call(ch, None, 0, own=False, create=False) for ch in asked])
        return {reply[0].decode() for reply in replies}

    def _answers(self, calls: Sequence[Call]) -> list[Any]:
        """Of reads, from the Redis that has the channels now. Raises Unavailable."""
        replies = _all(run_many(self.client, calls, ordered=False))
        self._histories.settle([(call.keys[1], reply[0].decode()) for call, reply in zip(calls, replies, strict=True)])
        return replies

    def _heed_limits(self) -> None:
        """Go by what the nodes say now. Raises Unavailable."""
        if self._shared is not None:
            self._scripts = _scripts(self._shared.current(), self._dedup_s, self._grace_ms)

    def _append_round(self, asks: Sequence[Ask], todo: Sequence[int], take: Take) -> list[int]:
        """One pipeline. Returns the numbers where Redis was not the one we took it for."""
        groups = list(together(todo, asks, sharded=self._histories.sharded))
        later: list[tuple[list[int], Call, Any]] = []

        def one(number: int, call: Call, reply: Any) -> None:
            if isinstance(reply, Unavailable) or _is_refused(reply) or not self._is_as_expected(call, reply):
                later.append((groups[number], call, reply))
            else:
                take(self._results(asks, groups[number], call, reply))

        calls = (self._append_call([asks[number] for number in group]) for group in groups)
        run_each(self.client, calls, one, text_first=len(groups) > 1, line=self._line)
        return self._settle_round(asks, later, take)

    def _settle_round(
        self, asks: Sequence[Ask], replies: Sequence[tuple[list[int], Call, Any]], take: Take
    ) -> list[int]:
        """What failed, and what another Redis answered than was expected: refused, or never asked before."""
        error = self._settle([(call, reply) for _, call, reply in replies])
        refused = []
        for group, call, reply in replies:
            if isinstance(reply, Unavailable):
                take([(number, reply) for number in group])
            elif not _is_refused(reply):
                take(self._results(asks, group, call, reply))
            elif error is not None:
                take([(number, error) for number in group])
            else:
                refused += group
        return sorted(refused)

    def _is_as_expected(self, call: Call, reply: Any) -> bool:
        """Whether this Redis is the one that is known: another greenlet may have met a later one meanwhile."""
        return bool(reply[0].decode() == self._histories.expected(call.keys[1]))

    def _append_call(self, asks: Sequence[Ask], replid: str | None = None) -> Call:
        histories = self._histories
        expected = histories.expected(self.keys.log(asks[0].append.ch)) if replid is None else replid
        return append_call(self._scripts.append, self.keys, asks, expected, histories.home)

    def _read_call(self, ch: str, after: Position | None, limit: int, own: bool, create: bool) -> Call:
        gen, seq = after or ("", 0)
        log = self.keys.log(ch)
        args = (gen, seq, limit, READ_BYTES, int(create), int(own))
        return Call(self._scripts.read, (self.keys.meta(ch), log), args, self._histories.home(log))

    def _results(
        self, asks: Sequence[Ask], group: Sequence[int], call: Call, reply: Any
    ) -> list[tuple[int, Appended | Unavailable]]:
        """The results of one call, by the numbers of its messages; what is in the log is kept for a while.

        What was there before, too: whoever else had its ok may be gone, or it broke off on the way.
        """
        results: list[tuple[int, Appended | Unavailable]] = []
        there = []
        for number, (kind, gen, seq, receivers, frame) in zip(group, places(call, reply), strict=True):
            append = asks[number].append
            if kind == AFTER_NOTHING:
                results.append((number, Unsettled("redis", "the message before it is not in the log")))
                continue
            there.append((append, gen, seq))
            results.append((number, Appended(append.ch, append.id, gen, seq, kind == DUPLICATE, frame, receivers)))
        slot = self._histories.slot(call.keys[1])
        self._histories.retained.add(reply[0].decode(), self._clock(), slot, there)
        return results

    def _settle(self, answered: Iterable[tuple[Call, Any]]) -> Unavailable | None:
        """Go on with the Redis that answered; the error if what the one before had could not be carried over."""
        try:
            self._histories.settle([
                (call.keys[1], reply[0].decode()) for call, reply in answered if not isinstance(reply, Unavailable)
            ])
        except Unavailable as error:
            return error
        return None

    def _resend(self, kept: Sequence[Kept], replid: str) -> list[bool | None]:
        """Append again what Redis may have lost: whether it had; None: another one has that channel now.

        Raises Unavailable.
        """
        asks = [Ask(one.append, digest_of(one.append), was=one.position) for one in kept]
        groups = list(together(range(len(asks)), asks, sharded=self._histories.sharded))
        calls = [self._append_call([asks[i] for i in group], replid) for group in groups]
        lost: list[bool | None] = [None] * len(kept)
        for group, call, reply in zip(groups, calls, _all(run_many(self.client, calls)), strict=True):
            if _is_refused(reply):
                continue
            for number, result in self._results(asks, group, call, reply):
                assert isinstance(result, Appended)  # it is after nothing
                lost[number] = not result.duplicate
                if not result.duplicate:
                    self.on_put_back(result)
        return lost


def _all(replies: list[Any]) -> list[Any]:
    """The replies. Raises the first Unavailable among them."""
    for reply in replies:
        if isinstance(reply, Unavailable):
            raise reply
    return replies


def _is_refused(reply: Any) -> bool:
    """Whether Redis took nothing of a call, being another one than that expected."""
    return len(reply) == 1


def _entries(reply: list[Any]) -> Entries:
    _replid, gen, head, oldest, recovered, start, *rest = reply
    frames = list(zip(rest[::2], rest[1::2], strict=True)) if rest else []
    last = frames[-1][0] if frames else start
    return Entries(gen.decode(), head, oldest, recovered != _MISSING, frames, last < head, head - start,
                   recovered == _DOUBTFUL)
