"""Messages and orders from back ends: into the logs, and to the nodes that hold the recipients."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ringway.core.errors import NoActiveMember, Unavailable
from ringway.core.frames import volatile_msg
from ringway.store.client import Client
from ringway.store.keys import Keys, group_log, inbox
from ringway.store.log import Appended, MessageLog
from ringway.store.notices import EVERYBODY, Control, LogNotice, Notice, VolatileNotice, encode
from ringway.store.pubsub import publish_many
from ringway.store.retained import Append
from ringway.store.softdown import AwayRecords

from .rings import Rings

BACK_END = ""  # the `from` of a message that no user sent


class Push:
    """Durable messages are safe once a call returns; the recipient's node is told, and finds them anyway if not.

    Bodies are JSON text.

    Args:
        down: the nodes that are passed over at the moment.
    """

    def __init__(
        self, client: Client, keys: Keys, log: MessageLog, rings: Rings, down: Callable[[], frozenset[str]]
    ) -> None:
        self._client, self._keys, self._log, self._rings, self._down = client, keys, log, rings, down
        self._away = AwayRecords(client, keys)

    def send(self, id: str, uids: Sequence[str], body: bytes) -> list[Appended]:
        """To users' inboxes. The same id again is a duplicate and changes nothing.

        Raises:
            Unavailable: Redis took some or none; send again with the same id.
        """
        owners = [self._owner(uid) for uid in uids]
        channels = [self._keys.node_channel(owner) if owner else None for owner in owners]
        appends = [
            Append(inbox(uid), BACK_END, id, body, channel) for uid, channel in zip(uids, channels, strict=True)
        ]
        done = _all(self._log.append_many(appends))
        self._pass_on([
            (uid, appended)
            for uid, owner, appended in zip(uids, owners, done, strict=True)
            if not appended.duplicate and (not appended.receivers or owner in self._down())
        ])
        return done

    def send_volatile(self, id: str, uids: Sequence[str], body: bytes) -> None:
        """To the sessions that users have now, at most once. Raises Unavailable, NoActiveMember."""
        notices = []
        for uid in uids:
            owner = self._owner(uid)
            if owner is None:
                raise NoActiveMember
            frame = volatile_msg(ch=inbox(uid), id=id, sender=BACK_END, body=orjson.Fragment(body), ts=_now_ms())
            notices.append((self._keys.node_channel(owner), VolatileNotice(inbox(uid), frame)))
        self._publish(notices)

    def publish(self, id: str, group: str, body: bytes) -> Appended:
        """To a group's log. Raises Unavailable."""
        channel = self._keys.group_channel(group)
        return self._log.append(Append(group_log(group), BACK_END, id, body, channel))

    def broadcast(self, id: str, body: bytes) -> None:
        """To every session of the cluster, at most once. Raises Unavailable."""
        frame = volatile_msg(ch=EVERYBODY, id=id, sender=BACK_END, body=orjson.Fragment(body), ts=_now_ms())
        self._publish([(self._keys.all_channel, VolatileNotice(EVERYBODY, frame))])

    def order(self, node: str, op: str, **args: Any) -> None:
        """Give a node an order, such as drain. Raises Unavailable."""
        self._publish([(self._keys.node_channel(node), Control(op, args))])

    def order_all(self, op: str, **args: Any) -> None:
        """Give all nodes an order, such as to end a user's sessions. Raises Unavailable."""
        self._publish([(self._keys.all_channel, Control(op, args))])

    def _owner(self, uid: str) -> str | None:
        latest = self._rings.latest
        return latest.view.ring.owner(uid) if latest is not None and len(latest.view.ring) else None

    def _pass_on(self, unheard: Sequence[tuple[str, Appended]]) -> None:
        """Tell the nodes that hold users in place of an owner who does not listen. The messages are in the log
        already, so a failure here only means that they arrive with that node's next sweep."""
        if not unheard:
            return
        away = self._away.of([uid for uid, _ in unheard])
        self._publish([
            (self._keys.node_channel(away[uid]), LogNotice(done.ch, done.gen, done.seq, done.frame, forwarded=True))
            for uid, done in unheard
            if uid in away
        ])

    def _publish(self, notices: Sequence[tuple[str, Notice]]) -> None:
        if notices:
            publish_many(self._client, [(channel, encode(notice)) for channel, notice in notices])


def _all(results: Sequence[Appended | Unavailable]) -> list[Appended]:
    done: list[Appended] = []
    for result in results:
        if isinstance(result, Unavailable):
            raise result
        done.append(result)
    return done


def _now_ms() -> int:
    return int(time.time() * 1000)
