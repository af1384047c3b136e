"""The node's `/metrics`: plain numbers of its parts, put into Prometheus's words when asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringway.core.members import State
from ringway.zookeeper import client as zookeeper_client
from ringway.zookeeper import membership
from ringway.zookeeper.ring_document import READER_ALARMS

from . import fast
from .rings import MIRROR

if TYPE_CHECKING:
    from .parts import Parts

MOVES = ("planned", "told", "went", "stayed", "closed", "returned", "misplaced")
CHECKSUM_DIGITS = 13  # of the hexadecimal checksum: 52 bits, which a float holds exactly


class NodeCollector(Collector):
    """Reads the node's counters at scrape time."""

    def __init__(self, node: Parts) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        yield from self._connections()
        yield from self._ring()
        yield from self._messages()
        yield from self._moves()
        yield from self._redis()

    def _connections(self) -> Iterator[Metric]:
        node, counters = self._node, self._node.acceptor.endpoint.counters
        yield _gauge("sessions", "Open sessions.", node.sessions.count)
        yield _gauge("users", "Users with a session.", len(node.sessions.users))
        yield _gauge("compiled", "1 where the hot path runs compiled, 0 in Python.", int(fast.compiled is not None))
        yield _gauge("connections", "Open connections, sessions or not.", counters.open)
        yield _gauge("handshakes", "Handshakes under way.", counters.handshakes)
        yield _gauge("queue_bytes", "Outgoing bytes that wait for slow readers.", counters.queue_bytes)
        yield _counter("opened_total", "Connections opened.", counters.opened)
        yield _counter("messages_in_total", "WebSocket messages received.", counters.messages_in)
        yield _counter("messages_out_total", "WebSocket messages sent.", counters.messages_out)
        yield _counter("bytes_in_total", "Bytes received.", counters.bytes_in)
        yield _counter("bytes_out_total", "Bytes sent.", counters.bytes_out)
        yield _counter("slow_consumers_total", "Sessions closed because they read too slowly.", counters.slow_consumers)
        yield _labelled("closed_total", "Ends of open connections.", ("code", "cause"), counters.closed)
        refused = "Handshakes refused: over HTTP, or by 4100 on a full node."
        yield _labelled("handshakes_refused_total", refused, ("cause",), counters.refused)
        yield _labelled("accept_errors_total", "Accepts that failed, and clients ended by it.", ("error",),
                        counters.accept_errors)
        yield _labelled("tickets_refused_total", "Tickets refused.", ("cause",), node.gate.refused)
        yield _labelled("admitted_total", "Handshakes by the verdict on them.", ("verdict",), node.gate.admitted)

    def _ring(self) -> Iterator[Metric]:
        node = self._node
        view = node.history.current
        yield _gauge("ring_gen", "History of the ring document.", view.version.gen if view else 0)
        yield _gauge("ring_epoch", "Number of the ring document.", view.version.epoch if view else 0)
        digits = int(view.document.checksum[:CHECKSUM_DIGITS], 16) if view else 0
        yield _gauge("ring_checksum", "First 52 bits of the checksum of the ring in use, as lookups have it.", digits)
        checksum = Counter({(view.document.checksum[:16],): 1}) if view else Counter[tuple[str]]()
        yield _labelled("ring_checksum_info", "Checksum of the ring document.", ("checksum",), checksum, gauge=True)
        away = node.zk.disconnected_for(time.monotonic())
        yield _gauge("ring_age_seconds", "For so long ZooKeeper could not have told of a newer ring.", away)
        members = Counter({(state.value,): 0 for state in State})
        members.update((member.state.value,) for member in (view.document.members if view else ()))
        yield _labelled("members", "Members in the ring document.", ("state",), members, gauge=True)
        states = {(state.value,): int(state is node.state) for state in State}
        yield _labelled("state", "1 for the node's own state.", ("state",), states, gauge=True)
        yield _gauge("zookeeper_up", "Whether ZooKeeper is connected.", int(node.zk.connected))
        problem = int(bool(node.zk.problem))
        yield _gauge("zookeeper_access_problem", "1 while it may not write, or strangers may.", problem)
        refused = _with_zeros(node.rings.alarms, (*READER_ALARMS, MIRROR))
        yield _labelled("documents_refused_total", "Ring documents dropped.", ("cause",), refused)
        events = _with_zeros(node.zk.counts, zookeeper_client.EVENTS)
        yield _labelled("zookeeper_events_total", "Connections, new sessions, forced restarts.", ("event",), events)
        entries = _with_zeros(node.registration.counts, membership.EVENTS)
        yield _labelled("registration_events_total", "What became of the entry in ZooKeeper.", ("event",), entries)

    def _messages(self) -> Iterator[Metric]:
        node = self._node
        yield _labelled("deliveries_total", "Messages by what was done with them.", ("kind",), node.delivery.counts)
        yield _labelled("frames_refused_total", "Client frames answered by an error.", ("code",), node.dispatch.refused)
        yield _labelled("handler_errors_total", "Exceptions in application handlers.", ("handler",), node.hooks.errors)
        yield _gauge("appends_waiting", "Durable messages on their way to Redis.", node.batcher.waiting)
        yield _counter("notices_dropped_total", "Volatile notices that Redis did not take.", node.batcher.dropped)
        yield _counter("notices_total", "Notices received.", node.subscriber.notices)
        yield _counter("log_pulls_total", "Gaps read from a log.", node.reader.pulls)
        yield _gauge("groups", "Groups with a session here.", len(node.delivery.groups))

    def _moves(self) -> Iterator[Metric]:
        mover = self._node.mover
        yield _gauge("moves_planned", "Users still to be moved.", mover.planned)
        yield _gauge("moves_under_way", "Sessions told to move whose deadline is to come.", mover.leaving)
        yield _gauge("moves_breaker_open", "1 while moves wait for the ring to settle.", int(mover.breaker_open))
        yield _labelled("moves_total", "Moves by what happened.", ("event",), _with_zeros(mover.counts, MOVES))

    def _redis(self) -> Iterator[Metric]:
        node = self._node
        yield _gauge("redis_up", "Whether Redis answers.", int(node.link.up))
        yield _gauge("subscribed", "Whether all subscriptions stand.", int(node.subscriber.connected))
        yield _counter("resubscriptions_total", "Subscriptions made again.", max(0, node.subscriber.reconnects))


def registry(node: Parts) -> CollectorRegistry:
    """A registry of this node alone, with the process's own figures."""
    made = CollectorRegistry()
    made.register(NodeCollector(node))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=made)
    return made


def text(made: CollectorRegistry) -> bytes:
    return generate_latest(made)


def _name(name: str) -> str:
    return f"ringway_node_{name}"


def _with_zeros(counts: Mapping[str, int], known: Iterable[str]) -> dict[str, int]:
    """What has not happened yet is there too, as 0: else an alert misses the first time."""
    return {**dict.fromkeys(known, 0), **counts}


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(_name(name), help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(_name(name), help, value=value)


def _labelled(
    name: str, help: str, labels: tuple[str, ...], values: Mapping[Any, int], *, gauge: bool = False
) -> Metric:
    """Args: values: by label, or by tuple of labels."""
    family = (GaugeMetricFamily if gauge else CounterMetricFamily)(_name(name), help, labels=labels)
    for key, value in list(values.items()):
        family.add_metric([key] if isinstance(key, str) else list(key), value)
    return family
