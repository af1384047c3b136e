"""The publisher's dealings with the copy of the ring in Redis: it may be away, and nothing waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Protocol

from ringway.core.members import RingDocument
from ringway.zookeeper.runtime import Runtime

log = logging.getLogger(__name__)

RETRY_S = 5.0


class Mirror(Protocol):
    """Where documents are copied for readers without ZooKeeper. It must refuse to go back to an older one."""

    def store(self, document: bytes, gen: int, epoch: int) -> bool: ...
    def load(self) -> bytes | None: ...
    def discard(self, document: bytes) -> bool: ...


class RingCopy:
    """Reads the copy when a publisher begins, and where it is newer than what is to be written; writes each document.

    Args:
        verified: the document in some bytes, None (with an alarm) where they do not verify.
        failed: called for each failure of Redis.

    Attributes:
        wanted: the document that the copy should have; None once it has it.
    """

    def __init__(
        self,
        mirror: Mirror,
        verified: Callable[[bytes, str], RingDocument | None],
        failed: Callable[[], object],
        runtime: Runtime,
    ) -> None:
        self.wanted: RingDocument | None = None
        self._mirror, self._verified, self._failed, self._runtime = mirror, verified, failed, runtime
        self._read: RingDocument | None = None
        self._is_read = False
        self._again_at = -inf

    @property
    def due_at(self) -> float:
        """When Redis can be asked again, where something is still to be read or written."""
        return self._again_at if self.wanted is not None or not self._is_read else inf

    def forget(self) -> None:
        """Have the copy read again."""
        self._is_read = False
        self._again_at = -inf

    def read(self, now: float) -> RingDocument | None:
        """The copy as last read; Redis is asked only until it has answered once, and where it refuses an older one."""
        if not self._is_read:
            self._is_read = self._try(self._load, now)
        return self._read

    def flush(self, now: float) -> None:
        """Write what is wanted, if Redis can be asked now."""
        document = self.wanted
        if document is not None and self._try(partial(self._store, document), now):
            self.wanted = None

    def _store(self, document: RingDocument) -> None:
        """Copy the document; what stands there under a higher number must be one that verifies and has it."""
        if self._mirror.store(document.to_bytes(), document.gen, document.epoch):
            return
        data = self._mirror.load()
        standing = self._read = self._verified(data, "Redis") if data else None
        if data and (standing is None or standing.version < document.version) and self._mirror.discard(data):
            self._mirror.store(document.to_bytes(), document.gen, document.epoch)

    def _load(self) -> None:
        data = self._mirror.load()
        self._read = self._verified(data, "Redis") if data else None

    def _try(self, call: Callable[[], object], now: float) -> bool:
        """Whether a call succeeded. While Redis is away, it is not asked with every pass: each may cost a time-out."""
        if now < self._again_at:
            return False
        if self._runtime.guard(call, log, "the ring's copy in Redis"):
            return True
        log.warning("Redis is away: the copy of the ring there waits")
        self._again_at = now + RETRY_S
        self._failed()
        return False
