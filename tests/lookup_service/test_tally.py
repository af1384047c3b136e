from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from ringway.lookup_service.metrics import Metrics
from ringway.lookup_service.tally import BulkHistogram, RouteTally

BOUNDS = (0.1, 1.0)
SECONDS = (0.05, 0.1, 0.2, 1.0, 1.5, 7.0)


def test_what_is_taken_is_what_was_added_and_then_nothing() -> None:
    tally = RouteTally(BOUNDS)
    for seconds in SECONDS:
        tally.add("route", seconds)
    tally.add("bad_uid", 0.01)
    taken = tally.take()
    assert (taken.outcomes, taken.buckets) == ({"route": 6, "bad_uid": 1}, [3, 2, 2])
    assert taken.seconds == sum(SECONDS) + 0.01
    assert tally.take() == ({}, [0, 0, 0], 0.0)


def test_added_at_once_gives_the_same_as_observed_one_by_one() -> None:
    one, many = CollectorRegistry(), CollectorRegistry()
    single, tally = Histogram("h", "h", buckets=BOUNDS, registry=one), RouteTally(BOUNDS)
    bulk = BulkHistogram("h", "h", buckets=BOUNDS, registry=many)
    for seconds in SECONDS:
        single.observe(seconds)
        tally.add("route", seconds)
    taken = tally.take()
    bulk.add(taken.buckets, taken.seconds)

    def lines(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert lines(many) == lines(one)


def test_no_answer_is_lost_between_threads() -> None:
    tally, seen = RouteTally(BOUNDS), 0

    def count() -> None:
        for _ in range(20_000):
            tally.add("route", 0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += tally.take().buckets[1]
    assert seen + tally.take().buckets[1] == 80_000


def test_the_exposition_has_every_answer_and_a_refusal_by_its_cause() -> None:
    metrics = Metrics()
    for outcome in ("route", "softdown", "route", "bad_uid"):
        metrics.routed(outcome, 0.0002)
    text = metrics.text().decode()
    assert 'ringway_lookup_routes_total{outcome="route"} 2.0' in text
    assert 'ringway_lookup_routes_total{outcome="softdown"} 1.0' in text
    assert 'ringway_lookup_refusals_total{cause="bad_uid"} 1.0' in text
    assert 'cause="route"' not in text
    assert "ringway_lookup_route_seconds_count 4.0" in text
