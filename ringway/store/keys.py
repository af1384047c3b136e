"""The names of everything ringway keeps in Redis.

On a Redis Cluster the part between the first { and the next } picks the slot. All keys of one channel (one Lua call
touches them together) have the channel as that part, and a user's own records live beside the user's inbox.
"""

from __future__ import annotations

from ringway.core.uids import validate_node_id

PREFIX = "ringway"


def inbox(uid: str) -> str:
    """The channel that is the user's inbox."""
    return f"u:{uid}"


def group_log(group: str) -> str:
    """The channel that is the group's log."""
    return f"g:{group}"


class Keys:
    """Key and channel names of one cluster. Raises ConfigError for a cluster name that is not a node-id-like word."""

    def __init__(self, cluster: str = "default") -> None:
        self.cluster = validate_node_id(cluster)
        self._p = f"{PREFIX}:{cluster}"
        self.ring = f"{self._p}:ring"
        self.presence_index = f"{self._p}:{{presence}}"  # sorted set: "node boot" -> last sign of life
        self.limits = f"{self._p}:limits"  # string: cap and TTL of all logs, as the nodes have them
        self.softdown = f"{self._p}:softdown"  # sorted set: node -> until when lookups pass it over
        # Pub/sub channels: not keys, no slots.
        self.all_channel = f"{self._p}:all"
        self.ring_channel = f"{self._p}:ring"
        self.events_channel = f"{self._p}:events"

    def log(self, ch: str) -> str:
        """Stream of a channel's messages; entry id = seq."""
        return f"{self._p}:log:{{{_tag(ch)}}}"

    def meta(self, ch: str) -> str:
        """Hash: what is remembered of a channel's log."""
        return f"{self._p}:meta:{{{_tag(ch)}}}"

    def of_log(self, ch: str) -> tuple[str, str, str, str]:
        """All that an append writes, in one slot: meta, log, and two hashes used in turn: digest of (sender, id) ->
        gen:seq."""
        prefix, tag = self._p, _tag(ch)
        return (f"{prefix}:meta:{{{tag}}}", f"{prefix}:log:{{{tag}}}",
                f"{prefix}:dedup:{{{tag}}}:0", f"{prefix}:dedup:{{{tag}}}:1")

    def cursor(self, uid: str) -> str:
        """Hash: channel -> gen:seq up to which the user has read."""
        return f"{self._p}:cursor:{{{_tag(inbox(uid))}}}"

    def groups_of(self, uid: str) -> str:
        """Set: groups that the user belongs to."""
        return f"{self._p}:groups:{{{_tag(inbox(uid))}}}"

    def members_of(self, group: str) -> str:
        """Set: users that belong to the group."""
        return f"{self._p}:members:{{{_tag(group_log(group))}}}"

    def of_user(self, uid: str) -> tuple[str, str, str, str]:
        """Meta and log of the inbox, cursors, groups: all in one slot."""
        prefix, tag = self._p, _tag(inbox(uid))
        return (f"{prefix}:meta:{{{tag}}}", f"{prefix}:log:{{{tag}}}",
                f"{prefix}:cursor:{{{tag}}}", f"{prefix}:groups:{{{tag}}}")

    def away(self, uid: str) -> str:
        """String: the node that holds the user for a while though it is not the owner."""
        return f"{self._p}:away:{{{_tag(inbox(uid))}}}"

    def presence(self, node: str, boot: str) -> str:
        """Set: users with a session on that boot of that node. In one slot with the index and all others."""
        return f"{self.presence_index}:{node}:{boot}"

    def node_stats(self, node: str) -> str:
        """String: the node's latest figures, JSON."""
        return f"{self._p}:stats:{node}"

    def node_channel(self, node: str) -> str:
        """Pub/sub channel of what is for users of one node."""
        return f"{self._p}:node:{node}"

    def group_channel(self, group: str) -> str:
        """Pub/sub channel of one group's messages."""
        return f"{self._p}:group:{group}"


def _tag(name: str) -> str:
    """The name without braces: a } of a user's own choosing must neither end the tag nor make two names meet."""
    if "%" in name or "{" in name or "}" in name:
        return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return name
