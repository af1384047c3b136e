"""The books find what they exist to find."""

from __future__ import annotations

import pytest

from ringway.chaos.ledger import Hole, Ledger, Overtaking, Verdict, percentile


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
    books.accepted("m1", 2.1, 7)
    books.accepted("m2", 2.1, 7)
    books.gap("bob", "g:g", Hole(("a", 3), ("a", 9), 3.0))
    verdict = books.verdict(9.0)
    assert list(verdict.lost) == [("m1", "bob"), ("m2", "ann")]
    assert (verdict.gaps, verdict.excused) == (1, 1)


@pytest.mark.parametrize(
    ("hole", "excused"),
    [
        (Hole(("a", 3), ("a", 9), 3.0), True),
        (Hole(("a", 7), ("a", 9), 3.0), False),  # it was had already
        (Hole(("a", 3), ("a", 7), 3.0), False),  # it comes after the gap
        (Hole(None, ("a", 8), 3.0), True),
        (Hole(None, ("a", 7), 3.0), False),
        (Hole(("a", 3), ("b", 2), 3.0), True),  # at the end of the old log
        (Hole(("a", 9), ("b", 2), 3.0), False),  # before it in the old log, after it in the new one
        (Hole(("a", 9), ("b", 8), 3.0), True),  # in the new one before it goes on
        (Hole(("a", 3), ("a", 9), 1.5), False),  # sent later than the gap was reported
    ],
)
def test_a_reported_gap_excuses_only_what_its_range_and_time_can_have(books: Ledger, hole: Hole, excused: bool) -> None:
    books.accepted("m2", 2.1, 7)
    books.delivered("ann", "g:g", ("a", 7), "m2", 2.2)
    books.delivered("bob", "u:bob", ("a", 1), "m1", 1.2)
    books.gap("bob", "g:g", hole)
    assert books.verdict(9.0).excused == excused
    assert bool(books.verdict(9.0).lost) != excused


def test_a_message_whose_place_nobody_knows_is_excused_by_no_gap(books: Ledger) -> None:
    books.gap("bob", "u:bob", Hole(None, ("a", 900), 3.0))
    assert ("m1", "bob") in books.verdict(9.0).lost


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


def test_a_senders_message_that_its_later_one_overtook_is_disorder_even_in_the_logs_order(books: Ledger) -> None:
    """The first append failed and was repeated when the second was in the log already: places rise all the same."""
    delivered_all(books)
    books.sent("m3", "g:g", "ann", 3.0)
    books.sent("m4", "g:g", "ann", 3.1)
    for uid in ("ann", "bob"):
        books.delivered(uid, "g:g", ("a", 2), "m4", 3.2)
        books.delivered(uid, "g:g", ("a", 3), "m3", 3.3)
    verdict = books.verdict(9.0)
    assert not verdict.ok
    assert set(verdict.disorder) == {Overtaking(uid, "g:g", "ann", "m4", "m3") for uid in ("ann", "bob")}


def test_only_one_senders_messages_in_one_channel_have_an_order(books: Ledger) -> None:
    delivered_all(books)
    books.sent("m3", "g:g", "ann", 3.0)
    books.sent("m4", "g:g", "bob", 3.1)
    books.sent("m5", "u:bob", "ann", 3.2)
    books.delivered("bob", "u:bob", ("a", 2), "m5", 3.2)
    for uid in ("ann", "bob"):
        books.delivered(uid, "g:g", ("a", 2), "m4", 3.2)
        books.delivered(uid, "g:g", ("a", 3), "m3", 3.3)
    assert books.verdict(9.0).ok


def test_a_delivery_may_be_booked_before_its_message_was() -> None:
    """They come from different processes."""
    books = Ledger({"u:bob": ["bob"]})
    books.delivered("bob", "u:bob", ("a", 1), "m1", 1.2)
    assert books.verdict(9.0).strange == 1
    books.sent("m1", "u:bob", "ann", 1.0)
    books.accepted("m1", 1.3)
    verdict = books.verdict(9.0)
    assert verdict.ok
    assert (verdict.delivered, books.owing, books.unanswered) == (1, 0, 0)
    assert verdict.latency_s["max"] == pytest.approx(0.2)


def test_the_next_books_know_who_is_where_and_what_was_read_but_nothing_of_before(books: Ledger) -> None:
    delivered_all(books)
    books.opened("ann", 1.0, "n1")
    books.opened("ann", 2.0, "n2")
    books.closed("bob", 5.0)
    assert books.paths() == {"ann": ("n1", "n2")}
    books = books.next()
    assert (books.sent_count, books.paths(), books.nodes, books.away()) == (0, {"ann": ("n2",)}, {"ann": "n2"}, 1)
    books.sent("m9", "u:bob", "ann", 5.0)
    books.delivered("bob", "u:bob", ("a", 1), "m9", 5.1)
    assert problems(books.verdict(9.0)) == {"disorder": 1}
    books.opened("bob", 8.0, "n1")
    assert [outage.seconds for outage in books.verdict(9.0).outages] == [3.0]


def test_outages_are_counted_from_close_to_open(books: Ledger) -> None:
    books.closed("bob", 1.0)
    books.closed("bob", 1.5)
    books.opened("bob", 3.0)
    books.closed("ann", 8.0)
    assert [(o.uid, o.seconds) for o in books.verdict(9.0).outages] == [("bob", 2.0), ("ann", 1.0)]


def test_the_cause_of_an_outage_is_the_first_one(books: Ledger) -> None:
    books.closed("bob", 1.0, "the connection broke")
    books.closed("bob", 1.5, "closed by the node with 4100")
    assert books.causes == {"the connection broke": 1}


def test_percentiles() -> None:
    assert percentile([5.0], 99) == 5.0
    assert percentile([float(i) for i in range(101)], 50) == 50.0
