"""Under which replication id Redis holds what, and what a new one means: a restart, a failover, or a moved slot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from redis import RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from .client import Client
from .retained import Kept, Retained

logger = logging.getLogger(__name__)

Resend = Callable[[Sequence[Kept], str], Sequence[bool | None]]


class Histories:
    """The replication id last seen for each slot; a server that is not a Redis Cluster counts as one slot.

    On a Cluster the id of one slot says nothing about others: its master may have restarted, or the slot has moved.

    Args:
        client: where the slots are.
        resend: appends these once more, to the Redis of this replication id, and returns of each whether it was
            lost; None: its channel is not there, but under yet another id. Raises Unavailable.
        dedup_s: for how long Redis knows a message again; what is older is not sent again.
        clock: monotonic seconds.
    """

    def __init__(self, client: Client, resend: Resend, *, dedup_s: float, clock: Callable[[], float]) -> None:
        self._client, self._resend, self._dedup_s, self._clock = client, resend, dedup_s, clock
        self.sharded = isinstance(client, RedisCluster)
        self._seen: dict[int, str] = {}
        self._ended: set[tuple[str, str]] = set()
        self._settling = threading.Lock()
        self.retained = Retained()
        self.resent = 0  # messages that had their ok, were lost by Redis, and are there again

    @property
    def restarts(self) -> int:
        """How often one Redis was found where another had been."""
        return len(self._ended)

    def expected(self, key: str) -> str:
        """The replication id that the key was under when last seen; empty before the first time."""
        return self._seen.get(self.slot(key), "")

    def home(self, key: str) -> str:
        """A name for the server that the key's calls go to."""
        if not isinstance(self._client, RedisCluster):
            return ""
        try:
            return str(self._client.get_node_from_key(key).name)  # type: ignore[no-untyped-call]
        except RedisClusterException:  # nobody has the slot at the moment: the call itself will say so
            return ""

    def slot(self, key: str) -> int:
        return int(key_slot(key.encode())) if self.sharded else 0

    def settle(self, found: Iterable[tuple[str, str]]) -> None:
        """Keys are under these replication ids. What other ones had last of their slots is appended again first.

        Raises:
            Unavailable: that did not work; the next call tries again.
        """
        turned: dict[str, set[int]] = {}
        for key, replid in found:
            slot = self.slot(key)
            if self._seen.get(slot) != replid:
                turned.setdefault(replid, set()).add(slot)
        for replid, slots in turned.items():
            with self._settling:
                self._turn(slots, replid)

    def _turn(self, slots: set[int], replid: str) -> None:
        """All slots that were found so in one go: after a restart that may be thousands."""
        slots = {slot for slot in slots if self._seen.get(slot) != replid}
        before = {seen for slot in slots if (seen := self._seen.get(slot))}
        if before:
            self._carry_over(before, slots, replid)
        self._seen.update(dict.fromkeys(slots, replid))

    def _carry_over(self, before: set[str], slots: set[int], replid: str) -> None:
        since = self._clock() - self._dedup_s / 2
        taken = [one for one in self.retained.take(slots, replid) if one[1].at > since]
        try:
            lost = self._resend([kept for _, kept in taken], replid)
        except BaseException:
            self.retained.put_back(taken)
            raise
        self.retained.put_back([one for one, was_lost in zip(taken, lost, strict=True) if was_lost is None])
        self._tell(before, replid, len(taken), lost.count(True))

    def _tell(self, before: set[str], replid: str, kept: int, lost: int) -> None:
        changes = {(one, replid) for one in before} - self._ended  # on a Redis Cluster each slot comes here
        if lost or changes:
            logger.warning("redis restarted or failed over, or slots of it moved; of the last %d messages given to "
                           "it there %d were lost and are appended again", kept, lost)
        self.resent += lost
        self._ended |= changes
