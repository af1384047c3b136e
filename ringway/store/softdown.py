"""Nodes that clients cannot reach for the moment, and where their users are meanwhile.

A mark makes the lookups pass a node over; it never changes the ring. A user who was placed elsewhere because of it has
an `away` record, so that the owner, once it is back, knows where to forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .client import Client, redis_errors
from .keys import Keys
from .scripts import Arg, Call, run, script

MARK_TTL_S = 10.0
AWAY_TTL_S = 60.0


class SoftDownMarks:
    """Marks shared by all lookups."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def mark(self, node: str, ttl_s: float = MARK_TTL_S) -> None:
        """Pass the node over for `ttl_s` seconds from now. Raises Unavailable."""
        self._run("mark", node, str(ttl_s))

    def unmark(self, node: str) -> None:
        """The node can be reached again. Raises Unavailable."""
        self._run("unmark", node)

    def marked(self) -> frozenset[str]:
        """The nodes marked now. Raises Unavailable."""
        return self._run("list")

    def _run(self, *args: Arg) -> frozenset[str]:
        reply = run(self._client, Call(script("softdown.lua"), (self._keys.softdown,), args))
        return frozenset(node.decode() for node in reply)


class AwayRecords:
    """uid -> the node that holds the user though it does not own them. They end by themselves unless renewed.

    One that outlives the stay costs a notice sent to where the user was; the owner, which has the user, never asks.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def put(self, placements: Mapping[str, str], ttl_s: float = AWAY_TTL_S) -> None:
        """Note or renew uid -> node, in one pipeline. Raises Unavailable."""
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for uid, node in placements.items():
                pipe.set(self._keys.away(uid), node, px=int(ttl_s * 1000))
            pipe.execute()

    def of(self, uids: Sequence[str]) -> dict[str, str]:
        """The placements of those users that have one. Raises Unavailable."""
        if not uids:
            return {}
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.get(self._keys.away(uid))
            values = pipe.execute()
        return {uid: node.decode() for uid, node in zip(uids, values, strict=True) if node}
