"""Where this node's ring comes from: ZooKeeper, and the mirror in Redis while ZooKeeper is away."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from ringway.core.errors import ConfigError, DocumentError, Unavailable
from ringway.core.history import Change, RingHistory
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument
from ringway.store.ring_mirror import RingMirror
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.ring_document import RingReader

log = logging.getLogger(__name__)

MIRROR = "mirror"  # the cause of an alarm, beside those of the reader


class Rings:
    """Feeds the history from both sources; whichever is newer wins, and `on_change` hears of each step once."""

    def __init__(
        self, history: RingHistory, zk: ZooKeeper, mirror: RingMirror, keys: KeyRing,
        on_change: Callable[[Change], object],
    ) -> None:
        self._history, self._zk, self._mirror, self._keys, self._on_change = history, zk, mirror, keys, on_change
        self._reader = RingReader(zk, keys, self._take)
        self._refused: Counter[str] = Counter()

    @property
    def alarms(self) -> Counter[str]:
        """Documents dropped, by cause, from either source."""
        return self._reader.alarms + self._refused

    @property
    def blind(self) -> bool:
        """Whether there is a ring that this node cannot read, or it has not looked yet."""
        return self._history.current is None and self._reader.blind

    def start(self) -> None:
        self._reader.start()

    def stop(self) -> None:
        self._reader.stop()

    def refresh(self, timeout_s: float) -> None:
        """Look for a newer ring, waiting so many seconds at most for ZooKeeper and then asking the mirror."""
        if not self._zk.connected or self._reader.refresh(timeout_s) is None:
            self.read_mirror()

    def read_mirror(self) -> None:
        """Go on to the mirror's document where it is newer. Blocks; quiet when Redis is away too."""
        try:
            data = self._mirror.load()
            if data:
                self._take(RingDocument.parse(data, self._keys))
        except Unavailable as error:
            log.info("the ring's mirror cannot be read: %s", error)
        except (DocumentError, ConfigError) as error:  # ConfigError: it is of another rule of hashing
            self._refused[MIRROR] += 1
            log.error("ALARM: dropped the ring's mirror in Redis: %s", error)

    def _take(self, document: RingDocument) -> None:
        change = self._history.apply(document)
        if change is not None:
            log.info("ring %s: %s", change.new.version, ", ".join(change.new.ring.weights) or "no active node")
            self._on_change(change)
