"""Nodes that are registered in ZooKeeper and not in the ring, and why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kazoo.exceptions import NoNodeError

from ringway.core.errors import InvalidInput
from ringway.core.members import NodeRecord, State
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.guards import Verdict

LASTS_S = 1.0
REASONS = {
    State.JOINING: "it is not ready; its /readyz says why",
    State.ACTIVE: "the publisher's guards keep it out for now; the publisher's log says why",
    State.DRAINING: "it is draining",
}


class Waiting:
    """Asks ZooKeeper at most once a second, and reads only those that the ring does not have: mostly none.

    Args:
        verdicts: what this process's guards say; they have the reason where it is the publisher.
    """

    def __init__(
        self, zk: ZooKeeper, verdicts: Callable[[], Iterable[Verdict]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._zk, self._verdicts, self._clock = zk, verdicts, clock
        self._found: Mapping[str, bytes] = {}
        self._until = float("-inf")

    def beside(self, members: Collection[str]) -> list[dict[str, Any]]:
        """Those that are not among the ring's members. Raises Unavailable."""
        if self._clock() >= self._until:
            self._found = self._read(members)
            self._until = self._clock() + LASTS_S
        said = {verdict.node: verdict.reason for verdict in self._verdicts() if verdict.guard in ("join", "flapping")}
        return [_entry(node, data, said) for node, data in sorted(self._found.items()) if node not in members]

    def _read(self, members: Collection[str]) -> dict[str, bytes]:
        path = self._zk.path("nodes")
        try:
            names = [name for name in self._zk.children(path) if name not in members]
        except NoNodeError:
            return {}
        found = self._zk.get_many([f"{path}/{name}" for name in names], [None] * len(names))
        return {name: answer[0] for name, answer in zip(names, found, strict=True) if answer is not None}


def _entry(node: str, data: bytes, said: Mapping[str, str]) -> dict[str, Any]:
    try:
        record = NodeRecord.parse(data)
    except InvalidInput as error:
        return {"id": node, "state": None, "reason": str(error)}
    return record.member().as_json() | {"reason": said.get(node) or REASONS[record.state]}
