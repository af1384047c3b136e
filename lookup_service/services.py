"""All parts of one lookup process, made and joined here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from ringway.core.errors import ConfigError, DocumentError, Unavailable
from ringway.core.history import Change
from ringway.core.members import Member, RingDocument
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.limits import SharedLimits
from ringway.store.log import MessageLog
from ringway.store.memberships import Memberships
from ringway.store.node_stats import NodeStats
from ringway.store.presence import PresenceReader
from ringway.store.ring_mirror import RingMirror
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.probe import livez
from ringway.zookeeper.ring_document import RingReader

from .auth import with_keys
from .config import LookupConfig
from .cors import Cors
from .events import EventHub
from .feed import Feed
from .gauges import set_gauges
from .gone import Gone
from .marks import RedisMarks
from .metrics import Metrics
from .preview import UNKNOWN, moved
from .publisher import Publisher
from .pulse import Pulse
from .push import Push
from .refresh import Refresher
from .rings import Rings
from .routing import Router
from .slots import ConnectSlots
from .softdown import SoftDown
from .waiting import Waiting

log = logging.getLogger(__name__)

ZOOKEEPER_START_S = 3.0
FIRST_RING_S = 1.0
BURST_S = 0.1  # a node takes a tenth of a second's connects at once
MAX_CONNECT_WAIT_S = 10.0  # a ticket lives 30 s, and begins to run when the answer is made


class Services:
    """What the views use. Everything here is thread-safe."""

    def __init__(self, config: LookupConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.cors, self.api_keys = Cors(config.origins), config.keys_of_back_ends
        self.authenticate = with_keys(config.authenticator(), self.api_keys)
        self.rings, self.hub = Rings(config.hashing), EventHub()
        self.redis_up = True
        self._sessions: Mapping[str, int] = {}  # of each node, when the nodes were last looked at
        self._stop_once = threading.Lock()
        self._stopped = False
        self._make_zookeeper()
        self._make_redis()
        self._make_routing()
        self.gone = Gone()
        self.rings.on_change(self.gone.heed)
        self.rings.on_change(self._ring_changed)
        self.hub.on_count = self.metrics.listeners.set
        gauges = partial(set_gauges, self)
        self.pulse = Pulse([self._sync_redis, self.log.carry_over, self._share_slots, self.metrics.flush, gauges])

    def _make_zookeeper(self) -> None:
        common = self.config.common
        self.zk = ZooKeeper(
            common.zookeeper, cluster=common.cluster, timeout_s=common.zookeeper_timeout,
            tls=self.config.zookeeper_tls, digest=common.zookeeper_digest,
        )  # fmt: skip
        self.reader = RingReader(self.zk, common.keys, self.rings.apply)
        self._candidates = self.zk.path("leader")

    def _make_redis(self) -> None:
        common = self.config.common
        keys = Keys(common.cluster)
        self.redis = connect(common.redis)
        self.mirror = RingMirror(self.redis, keys)
        self.log = MessageLog(self.redis, keys, limits=SharedLimits(self.redis, keys))
        self.presence, self.memberships = PresenceReader(self.redis, keys), Memberships(self.log)
        self.node_stats = NodeStats(self.redis, keys)
        self.marks = RedisMarks(self.redis, keys, self.metrics.away_dropped.inc)
        self.push = Push(self.redis, keys, self.log, self.rings, lambda: self.softdown.down)
        self.feed = Feed(self.redis, keys, on_ring=self._read_mirror, on_event=self.hub.publish)
        self.publisher = Publisher(
            self.zk, self.mirror, common.keys, self.config.hashing, self.config.guards, memory=self._document
        )

        self._waiting = Waiting(self.zk, lambda: self.publisher.status().verdicts)

    def _make_routing(self) -> None:
        rate = self.config.connects_per_node
        self.slots = ConnectSlots(rate, max(1.0, rate * BURST_S), MAX_CONNECT_WAIT_S)
        self.softdown = SoftDown(_answers, self.marks, self.config.softdown)
        self.softdown.on_verdict.append(self._probed)
        self.refresher = Refresher([self.reader.refresh, lambda _budget_s: self._read_mirror()])
        self.router = Router(
            self.rings, self.authenticate, self.config.common.keys, self.slots, self.softdown, self,
            self.refresher.refresh, self.metrics,
        )  # fmt: skip

    # --- life

    def start(self) -> None:
        """Start everything. Returns once there is a ring, or none could be had in a few seconds: then it is awaited
        while requests are answered with 503."""
        self.reader.start()
        if self.zk.start(ZOOKEEPER_START_S):
            self.reader.refresh(FIRST_RING_S)
        else:
            log.warning("ZooKeeper does not answer at %s; going by the copy in Redis until it does", self.zk.hosts)
            try:
                self._read_mirror()
            except Unavailable as error:
                log.warning("there is no copy to go by: %s", error)
        for part in (self.feed, self.marks, self.publisher, self.pulse):
            part.start()

    def stop(self) -> None:
        """Stop everything; streams first, since clients wait on them. A second call waits for the first."""
        with self._stop_once:
            if not self._stopped:
                self._stopped = True
                self.hub.close()
                for part in (self.pulse, self.feed, self.marks, self.publisher, self.reader, self.zk):
                    part.stop()
                for thread in (self.pulse, self.feed):
                    thread.join()
                self.metrics.flush()
                self.redis.close()

    # --- what the views ask

    def stale_for(self) -> float | None:
        """Seconds without ZooKeeper, None while it is there."""
        return None if self.zk.connected else self.zk.disconnected_for(time.monotonic())

    def staleness(self) -> dict[str, Any]:
        away = self.stale_for()
        return {"stale": False} if away is None else {"stale": True, "age_s": round(away, 1)}

    def nodes(self) -> list[dict[str, Any]]:
        """Each member of the ring document with its share and what it last said of itself; None where it said
        nothing (or Redis is away)."""
        latest = self.rings.latest
        if latest is None:
            return []
        try:
            said = self.node_stats.read([member.id for member in latest.view.document.members])
        except Unavailable:
            said = {}
        self._sessions = {node: figures["sessions"] for node, figures in said.items() if "sessions" in figures}
        down = self.softdown.down
        return [
            member.as_json() | {
                "share": latest.shares.get(member.id, 0.0),
                "sessions": said.get(member.id, {}).get("sessions"),
                "down": member.id in down,
            }
            for member in latest.view.document.members
        ]  # fmt: skip

    def waiting(self) -> list[dict[str, Any]]:
        """Each node that is registered and not in the ring, with the reason; empty while ZooKeeper is away."""
        latest = self.rings.latest
        try:
            return self._waiting.beside({m.id for m in latest.view.document.members} if latest else ())
        except Unavailable:
            return []

    def greeting(self) -> list[tuple[str, Any]]:
        """The state of things, for a new listener of events."""
        latest = self.rings.latest
        ring = [("ring", latest.public | UNKNOWN)] if latest else []
        return [*ring, ("nodes", {"nodes": self.nodes()})]

    # --- what happens

    def _ring_changed(self, change: Change) -> None:
        latest = self.rings.latest
        assert latest is not None
        log.info("ring %s: %s active", latest.view.version, len(latest.view.ring.weights))
        self.slots.keep_only(latest.view.ring.weights)
        self.metrics.ring_changes.inc()
        self.hub.publish_ring(latest.version, latest.public | moved(change, self._sessions))

    def _probed(self, node: str, alive: bool) -> None:
        self.metrics.verdicts.labels("alive" if alive else "dead").inc()
        if not alive:
            self.hub.publish("softdown", {"node": node})

    def _read_mirror(self) -> None:
        """Go on to the copy in Redis where it is newer. Raises Unavailable."""
        data = self.mirror.load()
        if data is None:
            return
        try:
            self.rings.apply(RingDocument.parse(data, self.config.common.keys))
        except (DocumentError, ConfigError) as error:
            self.metrics.documents.labels(type(error).__name__).inc()
            log.error("ALARM: the ring's copy in Redis is not used: %s", error)

    def _document(self) -> RingDocument | None:
        latest = self.rings.latest
        return latest.view.document if latest else None

    # --- once a second

    def _sync_redis(self) -> None:
        latest = self.rings.latest
        try:
            self.softdown.sync(latest.view.document.members if latest else ())
            self.redis_up = True
        except Unavailable:
            self.redis_up = False
            raise
        if self.hub.count:
            self.hub.publish("nodes", {"nodes": self.nodes()})

    def _share_slots(self) -> None:
        """Every lookup process of the cluster stands for election, so the candidates are the processes."""
        if self.zk.connected and self.zk.exists(self._candidates):
            self.slots.share_with(max(1, len(self.zk.children(self._candidates))))


def _answers(member: Member) -> bool:
    return livez(member.http)
