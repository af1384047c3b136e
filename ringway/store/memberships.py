"""Which groups a user belongs to for good, connected or not: they come back on connect, unread messages included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.core.uids import validate_group, validate_uid

from .client import redis_errors
from .cursors import TTL_S
from .keys import group_log
from .log import MessageLog
from .notices import Control, encode
from .scripts import Arg, Call, Script, run_many, script

ADDED, REMOVED = "add_members", "remove_members"  # orders to the nodes: {group, uids}


class Memberships:
    """Two sets that mirror each other; they may be in different slots, so the user's own one is what counts.

    A change may be repeated. All nodes are told, so that it holds for sessions that are open; one that is cut off from
    Redis at that moment goes by it when the user connects again.
    """

    def __init__(self, log: MessageLog) -> None:
        self._log, self._client, self._keys = log, log.client, log.keys

    def add(self, group: str, uids: str | Iterable[str]) -> None:
        """These users belong to the group from now on. What it has said before is not unread for those who are new.

        Raises:
            InvalidUid: a name cannot be a uid or a group.
            Unavailable: not everybody may be in it yet.
        """
        users, head = _valid(group, uids), self._head(group)
        self._change(script("member_add.lua", TTL=TTL_S), group, users, str(head) if head else "")
        self._tell(ADDED, group, users)

    def remove(self, group: str, uids: str | Iterable[str]) -> None:
        """These users belong to the group no more, and begin anew if they are added again. Errors as `add`."""
        users = _valid(group, uids)
        self._change(script("member_remove.lua"), group, users)
        self._tell(REMOVED, group, users)

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

    def _head(self, group: str) -> Position | None:
        ch = group_log(group)
        entries = self._log.read_many({ch: None}, 0, create=False)[ch]
        return Position(entries.gen, entries.seq) if entries.gen else None

    def _change(self, how: Script, group: str, uids: Sequence[str], *more: Arg) -> None:
        keys, args = self._keys, (group, group_log(group), *more)
        calls = [Call(how, (keys.groups_of(uid), keys.cursor(uid)), args) for uid in uids]
        for reply in run_many(self._client, calls, ordered=False):
            if isinstance(reply, Unavailable):
                raise reply

    def _tell(self, op: str, group: str, uids: Sequence[str]) -> None:
        if not uids:
            return
        members = self._keys.members_of(group)
        with redis_errors():
            (self._client.sadd if op == ADDED else self._client.srem)(members, *uids)
            self._client.publish(self._keys.all_channel, encode(Control(op, {"group": group, "uids": uids})))


def _valid(group: str, uids: str | Iterable[str]) -> list[str]:
    """Each user once. Raises InvalidUid."""
    validate_group(group)
    return list(dict.fromkeys([validate_uid(uid, "uids") for uid in ([uids] if isinstance(uids, str) else uids)]))
