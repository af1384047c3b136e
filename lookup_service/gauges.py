"""The gauges of `/metrics`, set once a second from the parts."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from .metrics import CHECKSUM_DIGITS, Metrics
from .publisher_status import PublisherStatus

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
    metrics.access_problem.set(bool(services.zk.problem))
    metrics.redis.set(services.redis_up)
    metrics.down.set(len(services.softdown.down))
    metrics.queue.set(max(services.slots.waiting(time.monotonic()).values(), default=0.0))
    _publisher(metrics, services.publisher.status(), services.reader.alarms)


def _publisher(metrics: Metrics, status: PublisherStatus, reader_alarms: dict[str, int]) -> None:
    metrics.publisher.set(status.elected)
    for alarm, count in status.alarms.items():
        metrics.alarms.labels("publisher", alarm).set(count)
    for alarm, count in reader_alarms.items():
        metrics.alarms.labels("reader", alarm).set(count)
    for (guard, action), count in status.decisions.items():
        metrics.guard_decisions.labels(guard, action).set(count)
    now = Counter((verdict.guard, verdict.action) for verdict in status.verdicts)
    metrics.guards_shown |= now.keys() | status.decisions.keys()
    for guard, action in metrics.guards_shown:
        metrics.guards.labels(guard, action).set(now[guard, action])
    if status.elected:
        for state in ("joining", "active", "draining"):
            metrics.registered.labels(state).set(status.nodes.get(state, 0))
