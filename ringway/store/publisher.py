"""For back ends that sit beside Redis: send to users and groups without a connection to any node.

    publisher = Publisher("redis://redis:6379/0", keys="k1:...")
    publisher.send("alice", {"text": "your order is on its way"}, id="order-4711-shipped")
    publisher.close()

The message is in the log when `send` returns, so it arrives, now or when the user is back; `close` waits until not even
a power failure of Redis can undo that. The node that owns the user
is told; if the ring here is out of date, that node forwards, or the owner finds the message in the log.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from ringway.core.errors import Unavailable
from ringway.core.frames import body_json, volatile_msg
from ringway.core.hashing import XXH64, hashing
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.uids import validate_group, validate_uid

from .client import Client, connect
from .keys import Keys, group_log, inbox
from .limits import SharedLimits
from .log import Appended, MessageLog
from .memberships import Memberships
from .notices import EVERYBODY, LogNotice, VolatileNotice, encode
from .owners import MirroredRing
from .pubsub import publish_many
from .retained import Append
from .ring_mirror import RingMirror
from .softdown import AwayRecords

SETTLE_S = 10.0


class Owners(Protocol):
    """Who owns a user. `refresh` is called when the owner did not listen."""

    def owner(self, uid: str) -> str | None: ...
    def refresh(self) -> object: ...


class Sent(NamedTuple):
    """What became of a message: one place in a log for each recipient, in their order; none for a volatile one."""

    id: str
    places: list[Appended]


class Publisher:
    """Sends messages. Safe for threads and greenlets.

    Args:
        redis: URL (see client.connect) or a client.
        cluster: the cluster's name (RINGWAY_CLUSTER).
        keys: the cluster's secrets (RINGWAY_KEYS), to verify the ring.
        alg, hash_key: the ring's algorithm and its key (RINGWAY_ALG, RINGWAY_HASH_KEY).
        sender: `from` of the messages. Empty, which no user can be, means a back end.
        owners: who owns whom, where the process knows already; the mirror in Redis otherwise.
        clock: unix seconds.

    Raises:
        ConfigError: a bad URL, cluster name, key or algorithm.
    """

    def __init__(
        self, redis: str | Client, *, cluster: str = "default", keys: str | KeyRing = DEVELOPMENT_KEYS,
        alg: str = XXH64, hash_key: bytes | None = None, sender: str = "", owners: Owners | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._owns_client = isinstance(redis, str)
        self._client = connect(redis) if isinstance(redis, str) else redis
        self._keys, self._sender, self._clock = Keys(cluster), sender, clock
        self._log = MessageLog(self._client, self._keys, limits=SharedLimits(self._client, self._keys))
        self._memberships = Memberships(self._log)
        self._away = AwayRecords(self._client, self._keys)
        ring = KeyRing.parse(keys) if isinstance(keys, str) else keys
        mirror = RingMirror(self._client, self._keys)
        self._owners = owners or MirroredRing(mirror, ring, hashing(alg, hash_key))

    def send(self, to: str | Iterable[str], body: Any, *, id: str | None = None, volatile: bool = False) -> Sent:
        """Send to one user or several.

        Args:
            body: any JSON value.
            id: names the message; sending it again with the same id within an hour does nothing. None: a new UUID.
                Give one if the call may be repeated after an Unavailable.
            volatile: keep it in no log: who is not connected never gets it.

        Raises:
            InvalidUid: a recipient cannot be a uid.
            InvalidInput: the body is no JSON, or nested too deep.
            Unavailable: Redis does not answer; not everybody may have it yet.
        """
        uids = [validate_uid(uid, "to") for uid in dict.fromkeys([to] if isinstance(to, str) else to)]
        message_id = id or str(uuid.uuid4())
        if volatile:
            self._send_volatile(uids, message_id, body)
            return Sent(message_id, [])
        text = body_json(body)
        appends = [Append(inbox(uid), self._sender, message_id, text, self._node_channel(uid)) for uid in uids]
        places = _all_there(self._log.append_many(appends))
        self._tell_again([(uid, at) for uid, at in zip(uids, places, strict=True) if not at.receivers])
        return Sent(message_id, places)

    def publish(self, group: str, body: Any, *, id: str | None = None) -> Appended:
        """Send to a group: to its members, connected or not. Arguments and errors as `send`."""
        message_id = id or str(uuid.uuid4())
        channel = self._keys.group_channel(validate_group(group))
        return self._log.append(Append(group_log(group), self._sender, message_id, body_json(body), channel))

    def broadcast(self, body: Any, *, id: str | None = None) -> str:
        """Send to everybody who is connected now; it is kept in no log. Returns the id. Errors as `send`."""
        message_id = id or str(uuid.uuid4())
        notice = self._volatile(EVERYBODY, message_id, body, forwarded=True)
        publish_many(self._client, [(self._keys.all_channel, notice)])
        return message_id

    def add_members(self, group: str, uids: str | Iterable[str]) -> None:
        """These users belong to the group for good, from now on: see Memberships. Raises InvalidUid, Unavailable."""
        self._memberships.add(group, uids)

    def remove_members(self, group: str, uids: str | Iterable[str]) -> None:
        """These users belong to the group no more. Raises InvalidUid, Unavailable."""
        self._memberships.remove(group, uids)

    def members_of(self, group: str) -> list[str]:
        """Who belongs to the group for good, sorted. Raises Unavailable."""
        return self._memberships.members_of(group)

    def groups_of(self, uid: str) -> list[str]:
        """The groups to which the user belongs for good, sorted. Raises Unavailable."""
        return self._memberships.groups_of(uid)

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Wait until Redis cannot lose any more what it said ok to: some 3 s after the last message.

        A power failure or a failover of Redis may lose the last second or two (`appendfsync everysec`). While this
        object lives, its next call puts that back; a process that ends waits here, or uses `close`.

        Raises:
            Unavailable: not within this time; call again.
        """
        self._log.settle(timeout_s)

    def close(self, timeout_s: float = SETTLE_S) -> None:
        """`settle`, then close the connections, unless the client is the caller's own. Raises Unavailable."""
        try:
            self.settle(timeout_s)
        finally:
            if self._owns_client:
                self._client.close()

    def _send_volatile(self, uids: Sequence[str], message_id: str, body: Any) -> None:
        notices = []
        for uid in uids:
            channel = self._node_channel(uid)
            notice = self._volatile(inbox(uid), message_id, body, forwarded=channel is None)
            notices.append((channel or self._keys.all_channel, notice))
        publish_many(self._client, notices)

    def _tell_again(self, unheard: Sequence[tuple[str, Appended]]) -> None:
        """Nobody listened where the owner should: look again where these users are. What stays unheard is in the log.

        (On a Redis Cluster receivers are undercounted; telling twice does no harm.)
        """
        unheard = [(uid, at) for uid, at in unheard if not at.duplicate]
        if not unheard:
            return
        self._owners.refresh()
        away = self._away.of([uid for uid, _at in unheard])
        notices = []
        for uid, at in unheard:
            node = away.get(uid) or self._owners.owner(uid)
            channel = self._keys.node_channel(node) if node else self._keys.all_channel
            notices.append((channel, encode(LogNotice(at.ch, at.gen, at.seq, at.frame, forwarded=True))))
        publish_many(self._client, notices)

    def _node_channel(self, uid: str) -> str | None:
        owner = self._owners.owner(uid)
        return self._keys.node_channel(owner) if owner else None

    def _volatile(self, ch: str, message_id: str, body: Any, *, forwarded: bool) -> bytes:
        text, now_ms = orjson.Fragment(body_json(body)), int(self._clock() * 1000)
        frame = volatile_msg(ch=ch, id=message_id, sender=self._sender, body=text, ts=now_ms)
        return encode(VolatileNotice(ch, frame, forwarded))


def _all_there(results: Sequence[Appended | Unavailable]) -> list[Appended]:
    places = []
    for result in results:
        if isinstance(result, Unavailable):
            raise result
        places.append(result)
    return places
