"""What a node asks Redis for when users connect, for many of them in one call.

On a Redis Cluster the keys of two users are in two slots, so there it is a call a user, in one pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ringway.core.frames import Position

from .keys import Keys, inbox
from .scripts import Call, Script

UNREAD = Position("*", 0)  # stands for the user's read cursor; no gen is written like this
READ_BYTES = 1 << 20
USERS = 32  # in one call: some hundred microseconds in which Redis does nothing else


class Arrival(NamedTuple):
    """A user who connects, and the position in the inbox up to which the client has everything."""

    uid: str
    after: Position


def arrive_calls(
    script: Script, keys: Keys, arrivals: Sequence[Arrival], limit: int, *, users: int, home: Callable[[str], str]
) -> list[Call]:
    """Calls for these users, so many in each. Args: home: of a key, as in `Call`."""
    calls = []
    for start in range(0, len(arrivals), users):
        names: list[str] = []
        args: list[str | int] = [limit, READ_BYTES]
        for uid, (gen, seq) in arrivals[start : start + users]:
            names += keys.of_user(uid)
            args += (inbox(uid), gen, seq)
        calls.append(Call(script, tuple(names), tuple(args), home(names[0])))
    return calls
