"""Softdown marks and `away` records in Redis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ringway.core.errors import Unavailable
from ringway.store.client import Client
from ringway.store.keys import Keys
from ringway.store.softdown import AwayRecords, SoftDownMarks

log = logging.getLogger(__name__)

WAITING = 20_000
GATHER_S = 0.02  # clients of a dead node come for a second, and one record costs Redis and us as much as twenty


class RedisMarks:
    """Marks are written at once. Away records are written behind the requests, in batches: each is worth a forwarded
    message, not a client's time, and thousands come together when a node dies."""

    def __init__(self, client: Client, keys: Keys, dropped: Callable[[int], object]) -> None:
        self._marks, self._records = SoftDownMarks(client, keys), AwayRecords(client, keys)
        self._dropped = dropped
        self._waiting: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="away-records", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(1.0)

    def mark(self, node: str, ttl_s: float) -> None:
        self._marks.mark(node, ttl_s)

    def unmark(self, node: str) -> None:
        self._marks.unmark(node)

    def marked(self) -> Iterable[str]:
        return self._marks.marked()

    def away(self, uid: str, node: str) -> None:
        """Note that the user is on `node`. Never waits; more than a mass of users at once are dropped and counted."""
        with self._changed:
            if len(self._waiting) >= WAITING:
                self._dropped(1)
                return
            self._waiting[uid] = node
            if len(self._waiting) == 1:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                self._changed.wait_for(lambda: self._stopping, GATHER_S)
                batch, self._waiting = self._waiting, {}
            if not batch:
                return
            try:
                self._records.put(batch)
            except Unavailable as error:
                self._dropped(len(batch))
                log.warning("%d softdown placements were not noted: %s", len(batch), error)
