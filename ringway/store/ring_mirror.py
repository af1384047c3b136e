"""The copy of the ring document in Redis: for readers without ZooKeeper, and for starting while ZooKeeper is down.

ZooKeeper's document is the authority. The copy is signed like it; who reads it verifies it (RingDocument.parse).
"""

from __future__ import annotations

from typing import cast

from .client import Client, redis_errors
from .keys import Keys
from .scripts import Call, run, script


class RingMirror:
    """Stores and loads the copy."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def store(self, document: bytes, gen: int, epoch: int) -> bool:
        """Copy a document and publish it on `Keys.ring_channel`; False: the copy is as new or newer.

        Raises:
            Unavailable: Redis does not answer.
        """
        args = (gen, epoch, document, self._keys.ring_channel)
        return bool(run(self._client, Call(script("ring.lua"), (self._keys.ring,), args)))

    def discard(self, document: bytes) -> bool:
        """Take away a copy that its reader found to be forged; False: another stands there by now.

        Its number, which nobody vouches for either, would otherwise keep every real document out.

        Raises:
            Unavailable: Redis does not answer.
        """
        return bool(run(self._client, Call(script("ring_discard.lua"), (self._keys.ring,), (document,))))

    def load(self) -> bytes | None:
        """The newest document copied; None: there is none. Raises Unavailable."""
        with redis_errors():
            return cast("bytes | None", self._client.hget(self._keys.ring, "doc"))
