"""What `/metrics` says. With several worker processes the numbers are those of all of them together.

prometheus_client then keeps every value in a file per process (its multiprocess mode: PROMETHEUS_MULTIPROC_DIR, set by
the parent before this is imported), and whichever worker is asked adds them up. Counters survive the death of a worker;
gauges that only make sense per process carry its `pid` and vanish with it. Route answers are counted in memory and
written to the files once a second, at the end, and whenever this worker is asked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

from .tally import BulkHistogram, RouteTally

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A route without I/O takes tens of microseconds; with a refresh 200 ms; with a probe seconds.
ROUTE_BUCKETS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5)
CHECKSUM_DIGITS = 13  # of the hexadecimal checksum: 52 bits, which a float holds exactly
DOCUMENT_CAUSES = ("DocumentForged", "DocumentCorrupt", "ConfigError")


class Metrics:
    """One object per process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._routes = self._counter("routes", "Answers to route requests.", "outcome")
        self._tally = RouteTally(ROUTE_BUCKETS)
        self.routed = self._tally.add  # one answer to a route request: its outcome, and the seconds it took
        self._route_seconds = BulkHistogram(
            "ringway_lookup_route_seconds", "Time to answer a route request.", buckets=ROUTE_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._refusals = self._counter("refusals", "Requests refused, all endpoints, by cause.", "cause")
        self.pushes = self._counter("pushes", "Messages taken from back ends.", "kind")
        self.verdicts = self._counter("probes", "Nodes probed because a client could not reach them.", "verdict")
        self.documents = self._counter("ring_documents_refused", "Ring documents not used, by cause.", "cause")
        for cause in DOCUMENT_CAUSES:
            self.documents.labels(cause)  # with 0, so that an alert sees the first one
        self.ring_changes = self._counter("ring_changes", "Rings this process went on to.")
        self.away_dropped = self._counter("away_records_dropped", "Softdown placements that could not be noted.")
        self.ring_gen = self._gauge("ring_gen", "gen of the ring in use.")
        self.ring_epoch = self._gauge("ring_epoch", "epoch of the ring in use.")
        self.ring_checksum = self._gauge("ring_checksum", "First 52 bits of the checksum of the ring in use.")
        self.ring_members = self._gauge("ring_members", "Members of the ring document by state.", "state")
        self.ring_age = self._gauge("ring_age_seconds", "Seconds since ZooKeeper could last be asked; 0 while it can.")
        self.zookeeper = self._gauge("zookeeper_connected", "1 while there is a session.")
        self.zookeeper_events = self._gauge("zookeeper_events", "Connections, new sessions, forced restarts.", "event")
        self.access_problem = self._gauge("zookeeper_access_problem", "1 while it may not write, or strangers may.")
        self.redis = self._gauge("redis_connected", "1 while Redis answers.")
        self.publisher = self._gauge("publisher", "1 on the process that publishes the ring.")
        self.guards = self._gauge("publisher_guards", "Nodes a guard acts on now.", "guard", "action")
        self.guard_decisions = self._gauge("publisher_decisions", "How often a guard acted.", "guard", "action")
        self.registered = self._gauge("registered_nodes", "Nodes in ZooKeeper, as the publisher sees them.", "state")
        self.alarms = self._gauge("ring_alarms", "Ring documents dropped and publications refused.", "part", "alarm")
        self.down = self._gauge("softdown_nodes", "Nodes that are passed over.")
        self.queue = self._gauge("connect_wait_seconds", "Longest wait for a connect slot.")
        self.listeners = self._gauge("sse_listeners", "Open event streams.", mode="livesum")

    def refused(self, cause: str) -> None:
        self._refusals.labels(cause).inc()

    def flush(self) -> None:
        """Hand over the route answers counted since the last call."""
        taken = self._tally.take()
        self._route_seconds.add(taken.buckets, taken.seconds)
        for outcome, count in taken.outcomes.items():
            self._routes.labels(outcome).inc(count)
            if outcome not in ("route", "softdown"):
                self._refusals.labels(outcome).inc(count)

    def text(self) -> bytes:
        """The exposition of all processes; the others' route answers may be a second old."""
        self.flush()
        if MULTIPROCESS not in os.environ:
            return bytes(generate_latest(self.registry))
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call] # the library has no types here
        return bytes(generate_latest(together))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ringway_lookup_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: str = "liveall") -> Gauge:
        return Gauge(f"ringway_lookup_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]


def forget_dead_processes() -> None:
    """Remove the per-process gauges of workers that died; called by the worker that takes their place."""
    folder = os.environ.get(MULTIPROCESS)
    if folder is None:
        return
    for path in Path(folder).glob("gauge_live*.db"):
        pid = re.search(r"_(\d+)\.db$", path.name)
        if pid and not _lives(int(pid[1])):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
