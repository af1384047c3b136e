"""Which Redis process holds what, and what to do when it turns out to be another one."""

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


class Processes:
    """The run id last seen for each slot; a server that is not a Redis Cluster counts as one slot.

    Args:
        client: where the slots are.
        resend: appends these once more at the process `run`, and returns how many had been lost. Raises Unavailable.
        dedup_s: for how long Redis knows a message again; what is older is not sent again.
        clock: monotonic seconds.
    """

    def __init__(self, client: Client, resend: Callable[[Sequence[Kept], str], int], *, dedup_s: float,
                 clock: Callable[[], float]) -> None:
        self._client, self._resend, self._dedup_s, self._clock = client, resend, dedup_s, clock
        self._sharded = isinstance(client, RedisCluster)
        self._runs: dict[int, str] = {}
        self._settling = threading.Lock()
        self.retained = Retained()
        self.restarts = 0  # times that a process was found to be another than before
        self.resent = 0  # messages that had their ok, were lost by Redis, and are there again

    def expected(self, key: str) -> str:
        """The run id of the process that held the key when last seen; empty before the first time."""
        return self._runs.get(self._slot(key), "")

    def home(self, key: str) -> str:
        """A name for the server that the key's calls go to."""
        if not isinstance(self._client, RedisCluster):
            return ""
        try:
            return str(self._client.get_node_from_key(key).name)  # type: ignore[no-untyped-call]
        except RedisClusterException:  # nobody has the slot at the moment: the call itself will say so
            return ""

    def settle(self, key: str, run: str) -> None:
        """The key's process is `run`. If it was another one before, what that one had last is appended again first.

        Raises:
            Unavailable: that did not work; the next call tries again.
        """
        slot = self._slot(key)
        if self._runs.get(slot) == run:
            return
        with self._settling:
            before = self._runs.get(slot)
            if before == run:
                return
            if before is not None:
                self._carry_over(before, run)
            self._runs[slot] = run

    def _carry_over(self, before: str, run: str) -> None:
        kept = self.retained.take(before)
        try:
            lost = self._resend([one for one in kept if one.at > self._clock() - self._dedup_s / 2], run)
        except BaseException:
            self.retained.put_back(before, kept)
            raise
        self.restarts += 1
        self.resent += lost
        logger.warning("redis is another process than before; of the last %d messages to the old one %d were lost "
                       "and are appended again", len(kept), lost)

    def _slot(self, key: str) -> int:
        return int(key_slot(key.encode())) if self._sharded else 0
