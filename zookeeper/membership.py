"""A node's own entry in ZooKeeper: an ephemeral znode `nodes/<node id>` that says where it is and in which state.

The entry is made right by looking, not by remembering: each pass reads the znode and its `ephemeralOwner` and
compares them with what they should be. The pass runs on every new connection and every ten seconds, because kazoo
does not tell of every lost session and ZooKeeper itself has had ephemerals out of step (ZOOKEEPER-4837).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from kazoo.exceptions import BadVersionError, KazooException, NodeExistsError, NoNodeError

from ringway.core.errors import AccessDenied, InvalidInput, Unavailable
from ringway.core.members import NodeRecord, State

from .client import SERVICE, ZooKeeper
from .probe import Probe, livez
from .runtime import Loop

log = logging.getLogger(__name__)

VERIFY_S = 10.0
ATTEMPTS = 5
EVENTS = ("created", "taken_over", "duplicate")
RACES = (NoNodeError, NodeExistsError, BadVersionError)


class DuplicateNode(InvalidInput):
    """A live node has this node id already. Taking its place would send its users to two nodes in turn."""

    code = "duplicate_node"

    def __init__(self, node_id: str, other: NodeRecord) -> None:
        rule = f"is the id of a live node at {other.http} (boot {other.boot_id})"
        super().__init__("RINGWAY_NODE_ID", node_id, rule, "give this node another id, or stop the other one first")
        self.other = other


class NodeRegistration:
    """Keeps one node's entry present, ours, and up to date from `register` to `close`.

    Args:
        record: what to publish; its `boot_id` must be new for each start of the process.
        probe: how to tell a live namesake from the ghost of a killed process.
        on_duplicate: called when, later on, a live namesake turns out to hold the entry (from the verifying task).

    Attributes:
        counts: how often each of EVENTS happened.
    """

    def __init__(
        self,
        zk: ZooKeeper,
        record: NodeRecord,
        *,
        probe: Probe = livez,
        on_duplicate: Callable[[DuplicateNode], object] | None = None,
        verify_s: float = VERIFY_S,
    ) -> None:
        self.record = record
        self.path = zk.path("nodes", record.id)
        self.registered = False
        self.counts: Counter[str] = Counter()
        self._zk, self._probe, self._verify_s = zk, probe, verify_s
        self._on_duplicate = on_duplicate
        self._lock = zk.runtime.lock()
        self._loop = Loop(zk, f"registration of node {record.id}", self._verify)
        self._closed = False

    def register(self) -> bool:
        """Create the entry and keep it.

        Returns:
            Whether it exists now. False: ZooKeeper is away, and the entry will be made when it is back.

        Raises:
            DuplicateNode: a live node has this id. Nothing was changed, and nothing goes on in the background.
            AccessDenied: the cluster has a digest, and this process not; the same holds.
        """
        done = self._try()
        self._loop.start()
        return done

    def set_state(self, state: State) -> bool:
        """Publish another state. Returns whether it is written; False: ZooKeeper is away, and it will be."""
        return self.update(self.record.with_state(state))

    def update(self, record: NodeRecord) -> bool:
        """Publish another record (weight, state) of the same node. Returns as `set_state`."""
        self.record = record
        return self._try_again()

    def close(self) -> None:
        """Delete the entry at once, so that nobody waits for the session to expire, and stop keeping it."""
        self._closed = True
        self._loop.stop()
        try:
            with self._lock:
                self._delete_ours()
        except (Unavailable, AccessDenied, KazooException) as error:
            log.warning("the entry of node %s goes when its session ends: %s", self.record.id, error)
        self.registered = False

    def _try(self) -> bool:
        try:
            with self._lock:
                self._ensure()
        except Unavailable as error:
            log.warning("node %s is not registered yet: %s", self.record.id, error)
            self.registered = False
        return self.registered

    def _verify(self) -> float:
        if not self._closed and self._zk.connected:
            self._try_again()
        return self._verify_s

    def _try_again(self) -> bool:
        try:
            return self._try()
        except DuplicateNode as duplicate:
            self._lost_to(duplicate)
        except AccessDenied:  # said by the session; the rights may be given yet
            self.registered = False
        return False

    def _lost_to(self, duplicate: DuplicateNode) -> None:
        self.registered = False
        self.counts["duplicate"] += 1
        log.error("lost the entry of node %s: %s", self.record.id, duplicate)
        if self._on_duplicate is not None:
            self._on_duplicate(duplicate)

    def _ensure(self) -> None:
        """Look, and make right what is wrong; again where somebody else wrote in between."""
        for _ in range(ATTEMPTS):
            try:
                self._ensure_once()
            except RACES:
                continue
            self.registered = True
            return
        raise Unavailable(SERVICE, f"{self.path} kept changing")

    def _ensure_once(self) -> None:
        data, session = self.record.to_bytes(), self._zk.session_id
        found = self._read()
        if found is None:
            self._create(data)
        elif found[1].ephemeralOwner != session:
            self._take_over(data, *found)
        elif found[0] != data:
            self._zk.set(self.path, data, found[1].version)

    def _read(self) -> tuple[bytes, Any] | None:
        try:
            return self._zk.get(self.path)
        except NoNodeError:
            return None

    def _create(self, data: bytes) -> None:
        try:
            self._zk.create(self.path, data, ephemeral=True)
        except NoNodeError:
            self._zk.ensure_path(self._zk.path("nodes"))
            self._zk.create(self.path, data, ephemeral=True)
        self.counts["created"] += 1
        log.info("node %s is registered", self.record.id)

    def _take_over(self, data: bytes, theirs: bytes, stat: Any) -> None:
        """Replace the entry of another session in one transaction, so that the node never vanishes.

        Setting the data alone would leave an entry that dies with the old session (CURATOR-498, apache/helix#642).
        """
        other = _parsed(theirs)
        if other is not None and self._is_alive(other):
            raise DuplicateNode(self.record.id, other)

        def replace(transaction: Any) -> None:
            transaction.delete(self.path, stat.version)
            transaction.create(self.path, data, ephemeral=True)

        self._zk.commit(replace)
        self.counts["taken_over"] += 1
        log.warning("node %s took over the entry that an ended session had left", self.record.id)

    def _is_alive(self, other: NodeRecord) -> bool:
        """Whether the entry is a live namesake's: not our own, not from an address that we hold now, and it answers."""
        if other.boot_id == self.record.boot_id or other.http == self.record.http:
            return False
        return self._probe(other.http, other.boot_id)

    def _delete_ours(self) -> None:
        found = self._read()
        if found is not None and found[1].ephemeralOwner == self._zk.session_id:
            self._zk.delete(self.path, found[1].version)


def _parsed(data: bytes) -> NodeRecord | None:
    try:
        return NodeRecord.parse(data)
    except InvalidInput:
        return None
