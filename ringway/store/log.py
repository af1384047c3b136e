"""The log of a channel: append, and read on from a position.

A position is (gen, seq). `gen` names an incarnation of the log; it changes when Redis came back as another process,
lost the log, or let it expire. Seqs go on where the incarnation before stopped, and its positions stay good as long as
nothing after them was lost, so a clean restart of Redis costs nobody anything. What cannot be vouched for is said:
`recovered` is False. docs/decisions/0030-redis-restarts.md has the whole argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import orjson

from ringway.core.errors import Unavailable
from ringway.core.frames import Position, msg_head, msg_tail

from . import cursors
from .arrivals import READ_BYTES, USERS, Arrival, arrive_calls
from .client import Client, redis_errors
from .histories import Histories
from .keys import Keys
from .line import Line
from .retained import Append as Append
from .retained import Kept
from .scripts import Call, run_many, script

DAY_S = 86_400
# What is remembered of a channel outlives its messages, so that a quiet week is not mistaken for a loss.
META_TTL_S = 90 * DAY_S
# So soon after a restart of Redis everybody who has had an ok from it has appended again what it lost.
GRACE_S = 3.0
# Replies of append.lua and read_on.lua.
_DUPLICATE, _OTHER_HISTORY, _AFTER_NOTHING = 1, 2, 3
_MISSING, _DOUBTFUL = 0, 2
_ROUNDS = 3


class _Link(NamedTuple):
    """An append's digest of sender and id, and that of the append which it must not overtake."""

    digest: bytes
    after: bytes


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


class MessageLog:
    """The logs of one cluster. Safe for threads and greenlets.

    Args:
        cap: messages kept per channel, at least (up to 100 more: Redis trims by blocks).
        ttl_s: seconds after the last message until a channel's messages go.
        dedup_s: seconds, at least, for which a message id is remembered.
        grace_s: seconds after a restart of Redis in which what it lost may be appended again.
        line: a connection for appends alone; the caller closes it.
        clock: monotonic seconds.
    """

    def __init__(
        self, client: Client, keys: Keys, *, cap: int = 1000, ttl_s: int = 7 * DAY_S, dedup_s: int = 3600,
        grace_s: float = GRACE_S, line: Line | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.keys = client, keys
        self._clock, self._line = clock, line
        meta_ttl_s = max(META_TTL_S, 2 * ttl_s)
        reading = {"META_TTL": meta_ttl_s, "GRACE_MS": int(grace_s * 1000)}
        self._append_script = script("open.lua", "append.lua", CAP=cap, TTL=ttl_s, META_TTL=meta_ttl_s, DEDUP=dedup_s)
        self._read_script = script("open.lua", "read_on.lua", "read.lua", **reading)
        self._arrive_script = script("open.lua", "read_on.lua", "arrive.lua", **reading)
        self._histories = Histories(client, self._resend, dedup_s=dedup_s, clock=clock)

    @property
    def restarts(self) -> int:
        """How often Redis was found to have restarted or failed over."""
        return self._histories.restarts

    @property
    def resent(self) -> int:
        """Messages that had their ok, were lost by Redis, and are there again."""
        return self._histories.resent

    def append_many(self, appends: Sequence[Append]) -> list[Appended | Unavailable]:
        """Append in this order, in one pipeline. Never raises.

        An Unavailable in a place: not known to be in the log. The same append may be tried again; its id keeps it from
        being there twice. Later ones here of the same sender to the same channel are Unavailable with it: none
        overtakes it.
        """
        results: list[Appended | Unavailable] = [Unavailable("redis", "it restarts again and again")] * len(appends)
        todo = list(range(len(appends)))
        links = _links(appends)
        for _ in range(_ROUNDS):
            todo = self._append_round(appends, links, todo, results)
            if not todo:
                break
        return results

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
        calls = [self._read_call(ch, after, limit, own, create) for ch, after in positions.items()]
        found = {}
        for ch, reply in zip(positions, run_many(self.client, calls, ordered=False), strict=True):
            if isinstance(reply, Unavailable):
                raise reply
            self._histories.settle(self.keys.log(ch), reply[0].decode())
            found[ch] = _entries(reply)
        return found

    def arrive(self, arrivals: Sequence[Arrival], limit: int = 256) -> list[tuple[Entries, list[str]]]:
        """For each user what the inbox holds after a position, as in `read`, and the groups the user belongs to.

        All answers together have about 1 MiB of messages; whoever comes later in a full one has `more`.

        Raises:
            Unavailable: Redis does not answer.
        """
        histories = self._histories
        calls = arrive_calls(self._arrive_script, self.keys, arrivals, limit,
                             users=1 if histories.sharded else USERS, home=histories.home)
        found = []
        for call, replies in zip(calls, run_many(self.client, calls, ordered=False), strict=True):
            if isinstance(replies, Unavailable):
                raise replies
            histories.settle(call.keys[1], replies[0][0][0].decode())
            found += [(_entries(entries), sorted(group.decode() for group in groups)) for entries, groups in replies]
        return found

    def carry_over(self) -> None:
        """Look whether Redis came back as another one, and append again what it lost. Raises Unavailable.

        Every call does that anyway; this is for when none comes soon.
        """
        chs = self._histories.retained.channels()
        self.read_many(dict.fromkeys(chs if self._histories.sharded else chs[:1]), 0, create=False)

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

    def _append_round(
        self, appends: Sequence[Append], links: Sequence[_Link], todo: Sequence[int],
        results: list[Appended | Unavailable],
    ) -> list[int]:
        """One pipeline. Fills in results; returns the places where Redis was not the one we took it for."""
        calls = [self._append_call(appends[i], links[i]) for i in todo]
        refused = []
        for i, call, reply in zip(todo, calls, run_many(self.client, calls, line=self._line), strict=True):
            error = reply if isinstance(reply, Unavailable) else self._settle(call, reply)
            if error is not None:
                results[i] = error
            elif reply[0] == _OTHER_HISTORY:
                refused.append(i)
            elif reply[0] == _AFTER_NOTHING:
                results[i] = Unavailable("redis", "the message before it is not in the log")
            else:
                results[i] = self._appended(appends[i], call, reply)
        return refused

    def _append_call(self, append: Append, link: _Link) -> Call:
        return self._call(append, link, self._histories.expected(self.keys.log(append.ch)), None)

    def _resend_call(self, kept: Kept, replid: str) -> Call:
        return self._call(kept.append, _Link(_digest(kept.append), b""), replid, kept.position)

    def _call(self, append: Append, link: _Link, replid: str, was: Position | None) -> Call:
        ch, sender, message_id, body, notify = append
        head = msg_head(ch=ch, id=message_id, sender=sender, body=orjson.Fragment(body), was=was)
        log = self.keys.log(ch)
        args = (replid, head, link.digest, notify or "", ch, link.after, *(was or ("", "")))
        return Call(self._append_script, (self.keys.meta(ch), log, *self.keys.dedup(ch)), args,
                    self._histories.home(log))

    def _read_call(self, ch: str, after: Position | None, limit: int, own: bool, create: bool) -> Call:
        gen, seq = after or ("", 0)
        log = self.keys.log(ch)
        args = (gen, seq, limit, READ_BYTES, int(create), int(own))
        return Call(self._read_script, (self.keys.meta(ch), log), args, self._histories.home(log))

    def _appended(self, append: Append, call: Call, reply: Any) -> Appended:
        """The result for one reply; what was added is kept for a while."""
        kind, replid, gen, seq, ts, receivers = reply
        gen = gen.decode()
        if kind == _DUPLICATE:
            return Appended(append.ch, append.id, gen, seq, True, b"", 0)
        self._histories.retained.add(replid.decode(), Kept(self._clock(), append, Position(gen, seq)))
        frame = cast(bytes, call.args[1]) + msg_tail(gen=gen, seq=seq, ts=ts)
        return Appended(append.ch, append.id, gen, seq, False, frame, receivers)

    def _settle(self, call: Call, reply: Any) -> Unavailable | None:
        """Go on with the Redis that answered; the error if what the one before had could not be carried over."""
        try:
            self._histories.settle(call.keys[0], reply[1].decode())
        except Unavailable as error:
            return error
        return None

    def _resend(self, kept: Sequence[Kept], replid: str) -> int:
        """Append again what Redis may have lost; returns how many it had. Raises Unavailable."""
        lost = 0
        calls = [self._resend_call(one, replid) for one in kept]
        for one, call, reply in zip(kept, calls, run_many(self.client, calls), strict=True):
            if isinstance(reply, Unavailable) or reply[0] == _OTHER_HISTORY:
                raise reply if isinstance(reply, Unavailable) else Unavailable("redis", "it restarted once more")
            result = self._appended(one.append, call, reply)
            lost += not result.duplicate
        return lost


def _digest(append: Append) -> bytes:
    sender = append.sender
    return blake2b(f"{len(sender)}:{sender}{append.id}".encode(), digest_size=12).digest()


def _links(appends: Sequence[Append]) -> list[_Link]:
    """Each goes after the one before it of the same sender to the same channel, or not at all."""
    if len(appends) == 1:
        return [_Link(_digest(appends[0]), b"")]
    last: dict[tuple[str, str], bytes] = {}
    links = []
    for append in appends:
        place, digest = (append.ch, append.sender), _digest(append)
        links.append(_Link(digest, last.get(place, b"")))
        last[place] = digest
    return links


def _entries(reply: list[Any]) -> Entries:
    _replid, gen, head, oldest, recovered, start, *rest = reply
    frames = list(zip(rest[::2], rest[1::2], strict=True))
    last = frames[-1][0] if frames else start
    return Entries(gen.decode(), head, oldest, recovered != _MISSING, frames, last < head, head - start,
                   recovered == _DOUBTFUL)
