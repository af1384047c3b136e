"""The publisher's dealings with what is written of flapping nodes beside the ring."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from kazoo.exceptions import NoNodeError

from ringway.core.errors import DocumentError
from ringway.core.keys import KeyRing
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.flap_memory import parse, remembered, to_bytes
from ringway.zookeeper.guard_state import GuardOptions, GuardState, Track
from ringway.zookeeper.ring_document import Election, Fenced

log = logging.getLogger(__name__)

_Summary = dict[str, tuple[tuple[float, ...], int, bool]]


class Flaps:
    """Reads it once a term, and writes each change, fenced like the ring. A failure never stops a publication.

    Args:
        forged: called where what stands there does not verify.
    """

    def __init__(
        self, zk: ZooKeeper, election: Election, keys: KeyRing, options: GuardOptions, forged: Callable[[], object],
        wall: Callable[[], float], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._zk, self._election, self._keys, self._options = zk, election, keys, options
        self._forged, self._wall, self._clock = forged, wall, clock
        self._path = zk.path("flapping")
        self._known: dict[str, Track] = {}
        self._written: _Summary = {}
        self._is_read = False

    def forget(self) -> None:
        """Have it read again: another may have been in office meanwhile."""
        self._is_read = False

    def restored(self, state: GuardState) -> GuardState:
        """The state with what an earlier publisher knew; what this process knew, where ZooKeeper lost that.

        Raises:
            Unavailable: nobody knows; nothing should be decided yet.
        """
        if self._is_read:
            return state
        data = self._load()
        if data:
            self._known = self._parsed(data)
        self._written, self._is_read = _summary(self._known) if data else {}, True
        return replace(state, tracks={**self._known, **state.tracks})

    def keep(self, state: GuardState) -> None:
        """Write it down where it has changed; if that fails, the next pass tries again."""
        self._known = remembered(state.tracks, self._options, self._clock())
        if _summary(self._known) != self._written:
            self._zk.runtime.guard(partial(self._write, self._known), log, "writing down who flaps")

    def _load(self) -> bytes:
        try:
            return self._zk.get(self._path)[0]
        except NoNodeError:
            self._zk.ensure_path(self._path)
            return b""

    def _parsed(self, data: bytes) -> dict[str, Track]:
        try:
            return parse(data, self._keys, self._options, self._clock(), self._wall())
        except DocumentError as error:
            self._forged()
            log.error("ALARM: who was flapping is forgotten, for %s: %s", self._path, error.why)
            return {}

    def _write(self, known: Mapping[str, Track]) -> None:
        try:
            self._election.write(self._path, to_bytes(known, self._keys, self._clock(), self._wall()), -1)
        except Fenced:  # no longer elected, which the next pass finds; or the znode was taken away: make it again
            self._is_read = False
            return
        self._written = _summary(known)


def _summary(tracks: Mapping[str, Track]) -> _Summary:
    return {node_id: (track.leaves, track.strikes, track.excluded) for node_id, track in tracks.items()}
