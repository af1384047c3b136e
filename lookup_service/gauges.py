"""The gauges of `/metrics`, set once a second from the parts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ringway.core.members import State
from ringway.zookeeper.client import EVENTS
from ringway.zookeeper.guards import VERDICTS
from ringway.zookeeper.ring_document import READER_ALARMS

from .metrics import CHECKSUM_DIGITS, Metrics
from .publisher_status import ALARMS, PublisherStatus

if TYPE_CHECKING:
    from .services import Services


def set_gauges(services: Services) -> None:
    metrics, latest = services.metrics, services.rings.latest
    if latest is not None:
        document = latest.view.document
        metrics.ring_gen.set(document.gen)
        metrics.ring_epoch.set(document.epoch)
        metrics.ring_checksum.set(int(document.checksum[:CHECKSUM_DIGITS], 16))
        for state, count in latest.states.items():
            metrics.ring_members.labels(state).set(count)
    metrics.ring_age.set(services.stale_for() or 0.0)
    metrics.zookeeper.set(services.zk.connected)
    for event in EVENTS:
        metrics.zookeeper_events.labels(event).set(services.zk.counts[event])
    metrics.access_problem.set(bool(services.zk.problem))
    metrics.redis.set(services.redis_up)
    metrics.down.set(len(services.softdown.down))
    metrics.queue.set(max(services.slots.waiting(time.monotonic()).values(), default=0.0))
    _publisher(metrics, services.publisher.status(), services.reader.alarms)


def _publisher(metrics: Metrics, status: PublisherStatus, reader_alarms: Mapping[str, int]) -> None:
    metrics.publisher.set(status.elected)
    for alarm in ALARMS:
        metrics.alarms.labels("publisher", alarm).set(status.alarms.get(alarm, 0))
    for alarm in READER_ALARMS:
        metrics.alarms.labels("reader", alarm).set(reader_alarms.get(alarm, 0))
    now = Counter((verdict.guard, verdict.action) for verdict in status.verdicts)
    for guard, action in VERDICTS:
        metrics.guard_decisions.labels(guard, action).set(status.decisions.get((guard, action), 0))
        metrics.guards.labels(guard, action).set(now[guard, action])
    for state in State:
        metrics.registered.labels(state.value).set(status.nodes.get(state.value, 0))
