"""Who owns a user, for processes that have no ZooKeeper: the ring from its mirror in Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ringway.core.errors import DocumentError, NoActiveMember, Unavailable
from ringway.core.hashing import Hashing
from ringway.core.history import RingHistory
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument

from .ring_mirror import RingMirror

logger = logging.getLogger(__name__)

MAX_AGE_S = 2.0


class MirroredRing:
    """Reads the mirror again when what it has is older than `max_age_s`. Has no thread of its own.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self, mirror: RingMirror, keys: KeyRing, hashing: Hashing, *, max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror, self._keys, self._history = mirror, keys, RingHistory(hashing)
        self._max_age_s, self._clock = max_age_s, clock
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def owner(self, uid: str) -> str | None:
        """The node that owns the user; None while no ring is known or nobody is in it.

        Raises:
            ConfigError: the ring was made with another algorithm or hash key than this process has.
        """
        if self._clock() - self._read_at > self._max_age_s:
            self.refresh()
        view = self._history.current
        try:
            return view.owner(uid).id if view else None
        except NoActiveMember:
            return None

    def refresh(self) -> None:
        """Read the mirror now. While Redis is away, or the copy is bad, the ring stays as it is; that is logged."""
        with self._reading:
            self._read_at = self._clock()
            try:
                data = self._mirror.load()
                if data is not None:
                    self._history.apply(RingDocument.parse(data, self._keys))
            except (DocumentError, Unavailable) as error:
                logger.warning("the ring in Redis cannot be used, going on with the one before: %s", error)
