"""All nodes' entries, as the publisher watches them.

A change of an entry's data (a weight, a state) does not touch its parent's cversion, so a watch on the children alone
never sees it: each child is watched for its data too. Only children whose watch fired are read again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from kazoo.exceptions import NoNodeError

from ringway.core.errors import InvalidInput, Unavailable
from ringway.core.members import NodeRecord

from .client import ZooKeeper

log = logging.getLogger(__name__)


class _Entry:
    """One child: its last record, and whether it must be read (again). It is its own watch."""

    __slots__ = ("_wake", "record", "stale")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.record: NodeRecord | None = None
        self.stale = True

    def __call__(self, _event: object) -> None:
        self.stale = True
        self._wake()


class NodesView:
    """`read` gives every node's record; `wake` is called when it is worth reading again."""

    def __init__(self, zk: ZooKeeper, wake: Callable[..., object]) -> None:
        self.counts: Counter[str] = Counter()
        self._zk, self._wake = zk, wake
        self._path = zk.path("nodes")
        self._entries: dict[str, _Entry] = {}

    def forget(self) -> None:
        """Have the next `read` read everything: for the reconcile pass and after a new connection."""
        for entry in self._entries.values():
            entry.stale = True

    def read(self) -> dict[str, NodeRecord]:
        """The records by node id. Raises Unavailable; then nothing is known, least of all that nodes are gone."""
        names = set(self._children())
        self._entries = {name: self._entries.get(name) or _Entry(self._wake) for name in names}
        stale = {name: entry for name, entry in self._entries.items() if entry.stale}
        try:
            self._refresh(stale)
        except Unavailable:
            self.forget()
            raise
        return {name: entry.record for name, entry in self._entries.items() if entry.record is not None}

    def _children(self) -> list[str]:
        try:
            return self._zk.children(self._path, watch=self._wake)
        except NoNodeError:  # the first start, or ZooKeeper was wiped; a parent that stays away would end the watch
            self._zk.ensure_path(self._path)
            return self._zk.children(self._path, watch=self._wake)

    def _refresh(self, stale: dict[str, _Entry]) -> None:
        for entry in stale.values():
            entry.stale = False  # before the read: an event during it must not be lost
        paths = [f"{self._path}/{name}" for name in stale]
        for (name, entry), found in zip(stale.items(), self._zk.get_many(paths, stale.values()), strict=True):
            if found is None:
                self._entries.pop(name, None)
            else:
                self._take(name, entry, found[0])

    def _take(self, name: str, entry: _Entry, data: bytes) -> None:
        """Use a record; one that cannot be read, or is another node's, leaves the last good one in force."""
        try:
            record = NodeRecord.parse(data)
            if record.id != name:
                raise InvalidInput("node record", record.id, f"stands under the name {name}", "restart that node")
        except InvalidInput as error:
            self.counts["bad_record"] += 1
            log.error("ignored what node %s says of itself: %s", name, error)
        else:
            entry.record = record
