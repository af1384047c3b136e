"""The books find what they exist to find."""

from __future__ import annotations

import pytest

from ringway.chaos.ledger import Ledger, Verdict, percentile


@pytest.fixture
def books() -> Ledger:
    ledger = Ledger({"u:bob": ["bob"], "g:g": ["ann", "bob"]})
    ledger.sent("m1", "u:bob", "ann", 1.0)
    ledger.sent("m2", "g:g", "ann", 2.0)
    return ledger


def delivered_all(ledger: Ledger) -> Ledger:
    ledger.accepted("m1", 1.1)
    ledger.accepted("m2", 2.1)
    ledger.delivered("bob", "u:bob", ("a", 1), "m1", 1.2)
    ledger.delivered("ann", "g:g", ("a", 1), "m2", 2.2)
    ledger.delivered("bob", "g:g", ("a", 1), "m2", 2.4)
    return ledger


def problems(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "doubled", "disorder")
    return {name: len(getattr(verdict, name)) for name in names if getattr(verdict, name)}


def test_all_delivered_once_and_in_order_is_ok(books: Ledger) -> None:
    verdict = delivered_all(books).verdict(9.0)
    assert verdict.ok
    assert (verdict.sent, verdict.accepted, verdict.owed, verdict.delivered) == (2, 2, 3, 3)
    assert books.owing == 0
    assert verdict.latency_s["max"] == pytest.approx(0.4)
    assert verdict.lines()[-1] == "verdict: nothing lost, doubled or out of order"


def test_what_is_missing_is_lost_by_message_and_reader(books: Ledger) -> None:
    books.delivered("ann", "g:g", ("a", 1), "m2", 2.2)
    assert books.owing == 2
    verdict = books.verdict(9.0)
    assert not verdict.ok
    assert list(verdict.lost) == [("m1", "bob"), ("m2", "bob")]
    assert any("m1 to bob" in line for line in verdict.lines())


def test_a_second_delivery_is_doubled_and_out_of_order(books: Ledger) -> None:
    delivered_all(books).delivered("bob", "u:bob", ("a", 1), "m1", 3.0)
    assert problems(books.verdict(9.0)) == {"doubled": 1, "disorder": 1}


def test_a_later_incarnation_is_in_order_and_an_earlier_one_is_not(books: Ledger) -> None:
    delivered_all(books)
    books.sent("m3", "u:bob", "ann", 3.0)
    books.delivered("bob", "u:bob", ("b", 1), "m3", 3.1)
    assert books.verdict(9.0).ok
    books.sent("m4", "u:bob", "ann", 3.0)
    books.delivered("bob", "u:bob", ("a", 2), "m4", 3.1)
    assert problems(books.verdict(9.0)) == {"disorder": 1}


def test_a_reported_gap_excuses_only_its_channel_and_reader(books: Ledger) -> None:
    books.gap("bob", "g:g")
    verdict = books.verdict(9.0)
    assert list(verdict.lost) == [("m1", "bob"), ("m2", "ann")]
    assert (verdict.gaps, verdict.excused) == (1, 1)


def test_a_refused_message_is_owed_to_nobody(books: Ledger) -> None:
    delivered_all(books)
    books.sent("m3", "u:bob", "ann", 3.0)
    assert books.owing == 1
    books.refused("m3", "forbidden")
    assert books.owing == 0
    verdict = books.verdict(9.0)
    assert verdict.ok
    assert verdict.refused == {"forbidden": 1}


def test_a_message_nobody_sent_is_strange(books: Ledger) -> None:
    delivered_all(books).delivered("bob", "u:bob", ("a", 2), "m99", 3.0)
    assert books.verdict(9.0).strange == 1
    assert not books.verdict(9.0).ok


def test_outages_are_counted_from_close_to_open(books: Ledger) -> None:
    books.closed("bob", 1.0)
    books.closed("bob", 1.5)
    books.opened("bob", 3.0)
    books.closed("ann", 8.0)
    assert [(o.uid, o.seconds) for o in books.verdict(9.0).outages] == [("bob", 2.0), ("ann", 1.0)]
    books.forget_outages()
    assert [o.uid for o in books.verdict(9.0).outages] == ["ann"]


def test_percentiles() -> None:
    assert percentile([5.0], 99) == 5.0
    assert percentile([float(i) for i in range(101)], 50) == 50.0
