"""How far a user has read each channel: one hash per user, in the slot of the user's inbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringway.core.errors import Unavailable
from ringway.core.frames import Position

from .client import Client, redis_errors
from .keys import Keys
from .scripts import Call, run, run_many, script

# A user who does not connect for so long finds everything that is still kept unread again.
TTL_S = 90 * 86_400


def ack(client: Client, keys: Keys, uid: str, ch: str, position: Position) -> bool:
    """Move the cursor forward: a later seq of its gen, or any seq of a later gen. Raises Unavailable.

    The gen must be one that the log gave out; the caller knows which those are.
    """
    return bool(run(client, _ack_call(keys, uid, ch, position)))


def ack_many(client: Client, keys: Keys, acks: Mapping[tuple[str, str], Position]) -> None:
    """`ack` for many, as (uid, channel) -> position, in one pipeline. Raises Unavailable if any failed."""
    calls = [_ack_call(keys, uid, ch, at) for (uid, ch), at in acks.items()]
    for reply in run_many(client, calls):
        if isinstance(reply, Unavailable):
            raise reply


def read(client: Client, keys: Keys, uid: str, chs: Sequence[str]) -> list[Position | None]:
    """The user's cursors for these channels, None where nothing was acked. Raises Unavailable."""
    if not chs:
        return []
    with redis_errors(), client.pipeline(transaction=False) as pipe:
        pipe.hmget(keys.cursor(uid), list(chs))
        pipe.expire(keys.cursor(uid), TTL_S)
        values = pipe.execute()[0]
    return [_parse(value) if value else None for value in values]


def read_many(client: Client, keys: Keys, wanted: Sequence[tuple[str, str]]) -> list[Position | None]:
    """The cursors of many (uid, channel), in one pipeline. Raises Unavailable."""
    with redis_errors(), client.pipeline(transaction=False) as pipe:
        for uid, ch in wanted:
            pipe.hget(keys.cursor(uid), ch)
        values = pipe.execute()
    return [_parse(value) if value else None for value in values]


def _ack_call(keys: Keys, uid: str, ch: str, position: Position) -> Call:
    return Call(script("ack.lua", TTL=TTL_S), (keys.cursor(uid),), (ch, *position))


def _parse(value: bytes) -> Position:
    gen, _, seq = value.decode().rpartition(":")
    return Position(gen, int(seq))
