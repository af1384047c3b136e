"""Under which replication id Redis holds what, and what to do when that changes: a restart, or a failover."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from redis import RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from .client import Client
from .retained import Kept, Retained

logger = logging.getLogger(__name__)


class Histories:
    """The replication id last seen for each slot; a server that is not a Redis Cluster counts as one slot.

    Args:
        client: where the slots are.
        resend: appends these once more, to the Redis of this replication id, and returns how many were lost.
            Raises Unavailable.
        dedup_s: for how long Redis knows a message again; what is older is not sent again.
        clock: monotonic seconds.
    """

    def __init__(self, client: Client, resend: Callable[[Sequence[Kept], str], int], *, dedup_s: float,
                 clock: Callable[[], float]) -> None:
        self._client, self._resend, self._dedup_s, self._clock = client, resend, dedup_s, clock
        self.sharded = isinstance(client, RedisCluster)
        self._seen: dict[int, str] = {}
        self._ended: set[str] = set()
        self._settling = threading.Lock()
        self.retained = Retained()
        self.restarts = 0  # replication ids that came to an end
        self.resent = 0  # messages that had their ok, were lost by Redis, and are there again

    def expected(self, key: str) -> str:
        """The replication id that the key was under when last seen; empty before the first time."""
        return self._seen.get(self._slot(key), "")

    def home(self, key: str) -> str:
        """A name for the server that the key's calls go to."""
        if not isinstance(self._client, RedisCluster):
            return ""
        try:
            return str(self._client.get_node_from_key(key).name)  # type: ignore[no-untyped-call]
        except RedisClusterException:  # nobody has the slot at the moment: the call itself will say so
            return ""

    def settle(self, key: str, replid: str) -> None:
        """The key is under `replid`. If that was another one before, what Redis had last is appended again first.

        Raises:
            Unavailable: that did not work; the next call tries again.
        """
        slot = self._slot(key)
        if self._seen.get(slot) == replid:
            return
        with self._settling:
            before = self._seen.get(slot)
            if before == replid:
                return
            if before is not None:
                self._carry_over(before, replid)
            self._seen[slot] = replid

    def _carry_over(self, before: str, replid: str) -> None:
        kept = self.retained.take(before)
        try:
            lost = self._resend([one for one in kept if one.at > self._clock() - self._dedup_s / 2], replid)
        except BaseException:
            self.retained.put_back(before, kept)
            raise
        self.resent += lost
        if lost or before not in self._ended:  # on a Redis Cluster each slot comes here
            logger.warning("redis restarted or failed over; of the last %d messages given to it %d were lost "
                           "and are appended again", len(kept), lost)
        if before not in self._ended:
            self._ended.add(before)
            self.restarts += 1

    def _slot(self, key: str) -> int:
        return int(key_slot(key.encode())) if self.sharded else 0
