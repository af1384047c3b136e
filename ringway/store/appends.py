"""What is asked of append.lua, and what it answers. Pure.

Several messages go in one call where their keys may: to a single Redis 32 together, to a Cluster those of one channel.
A call costs Redis about as much as another message in it, and a client more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import orjson

from ringway.core.frames import Position, msg_head, msg_tail

from .keys import Keys
from .retained import Append
from .scripts import Arg, Call, Script

TOGETHER = 32  # messages in one call: some hundred microseconds in which Redis does nothing else
ADDED, DUPLICATE, AFTER_NOTHING = 0, 1, 3  # append.lua's words
_ARGS = 7  # of each message


class Ask(NamedTuple):
    """A message to be appended.

    `digest` is that of its sender and id. `after` is that of a message which must be in the log before it, or empty.
    `was` is the place that it had before Redis lost it.
    """

    append: Append
    digest: bytes
    after: bytes = b""
    was: Position | None = None


# What became of one message: ADDED, DUPLICATE or AFTER_NOTHING; gen, seq, receivers; the whole frame of an added one.
Place = tuple[int, str, int, int, bytes]


def in_order(appends: Sequence[Append]) -> list[Ask]:
    """Each goes after the one before it of the same sender to the same channel, or not at all."""
    if len(appends) == 1:
        return [Ask(appends[0], digest_of(appends[0]))]
    last: dict[tuple[str, str], bytes] = {}
    asks = []
    for append in appends:
        place, digest = (append.ch, append.sender), digest_of(append)
        asks.append(Ask(append, digest, last.get(place, b"")))
        last[place] = digest
    return asks


def digest_of(append: Append) -> bytes:
    sender = append.sender
    return blake2b(f"{len(sender)}:{sender}{append.id}".encode(), digest_size=12).digest()


def together(numbers: Sequence[int], asks: Sequence[Ask], *, sharded: bool) -> Iterator[list[int]]:
    """Which of the asks, by number, go in one call; those of one channel stay in their order."""
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(asks[number].append.ch if sharded else "", []).append(number)
    for group in groups.values():
        for start in range(0, len(group), TOGETHER):
            yield group[start : start + TOGETHER]


def append_call(script: Script, keys: Keys, asks: Sequence[Ask], replid: str, home: Callable[[str], str]) -> Call:
    """One call for these, in this order. Args: replid: what Redis must have, or it refuses; home: as in `Call`."""
    names: list[str] = []
    args: list[Arg] = [replid]
    for (ch, sender, message_id, body, notify), digest, after, was in asks:
        head = msg_head(ch=ch, id=message_id, sender=sender, body=orjson.Fragment(body), was=was)
        names += keys.of_log(ch)
        args += (head, digest, notify or "", ch, after, *(was or ("", "")))
    return Call(script, tuple(names), tuple(args), home(names[1]))


def places(call: Call, reply: Sequence[Any]) -> list[Place]:
    """What became of each message of a call that Redis did not refuse."""
    _replid, ts, *found = reply
    found_places: list[Place] = []
    for head, (kind, *place) in zip(call.args[1::_ARGS], found, strict=True):
        if kind == ADDED:
            gen, seq, receivers = place
            name = gen.decode()
            found_places.append((kind, name, seq, receivers, cast(bytes, head) + msg_tail(gen=name, seq=seq, ts=ts)))
        else:
            gen, seq, _ = place or (b"", 0, 0)
            found_places.append((kind, gen.decode(), seq, 0, b""))
    return found_places
