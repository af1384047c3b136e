"""Which groups a user belongs to for good, connected or not: they come back on connect, unread messages included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .client import Client, redis_errors
from .keys import Keys


class Memberships:
    """Two sets that mirror each other; they may be in different slots, so the user's own one is what counts."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def add(self, uid: str, group: str) -> None:
        """The user belongs to the group from now on. Raises Unavailable; may be repeated."""
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.sadd(self._keys.groups_of(uid), group)
            pipe.sadd(self._keys.members_of(group), uid)
            pipe.execute()

    def remove(self, uid: str, group: str) -> None:
        """The user belongs to the group no more. Raises Unavailable; may be repeated."""
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.srem(self._keys.groups_of(uid), group)
            pipe.srem(self._keys.members_of(group), uid)
            pipe.execute()

    def groups_of(self, uid: str) -> list[str]:
        """The user's groups, sorted. Raises Unavailable."""
        return self._members(self._keys.groups_of(uid))

    def groups_of_many(self, uids: Sequence[str]) -> list[list[str]]:
        """`groups_of` for each of these users, in one pipeline. Raises Unavailable."""
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.smembers(self._keys.groups_of(uid))
            found = pipe.execute()
        return [sorted(member.decode() for member in members) for members in found]

    def members_of(self, group: str) -> list[str]:
        """The group's users, sorted. Raises Unavailable."""
        return self._members(self._keys.members_of(group))

    def _members(self, key: str) -> list[str]:
        with redis_errors():
            found: Any = self._client.smembers(key)
        return sorted(member.decode() for member in found)
