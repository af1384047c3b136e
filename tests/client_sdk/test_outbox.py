"""What was sent stays until it has an ok; no more than the limit."""

from __future__ import annotations

import pytest

from ringway.client_sdk.outbox import Entry, Outbox
from ringway.core.errors import InvalidInput, SendBufferFull


def filled(*ids: str, limit: int = 10) -> Outbox[str]:
    outbox: Outbox[str] = Outbox(limit)
    for id in ids:
        outbox.add(Entry(id, f"text {id}", f"receipt {id}", volatile=id.startswith("v")))
    return outbox


def test_what_has_no_ok_is_written_again_in_the_order_it_was_sent() -> None:
    outbox = filled("a", "b", "c")
    outbox.settle("b")
    assert outbox.texts() == ["text a", "text c"]


def test_an_ok_gives_the_receipt_once() -> None:
    outbox = filled("a")
    entry = outbox.settle("a")
    assert entry is not None
    assert entry.receipt == "receipt a"
    assert outbox.settle("a") is None


def test_a_full_outbox_says_how_many_wait_and_what_to_do() -> None:
    outbox = filled("a", "b", limit=2)
    with pytest.raises(SendBufferFull, match=r"2 messages already wait for ok.*outbox_limit"):
        outbox.add(Entry("c", "", ""))
    outbox.settle("a")
    outbox.add(Entry("c", "", ""))


def test_an_id_that_still_waits_cannot_be_used_again() -> None:
    with pytest.raises(InvalidInput, match="id of its own"):
        filled("a", "a")


def test_volatile_messages_end_with_the_connection_and_are_never_written_again() -> None:
    outbox = filled("a", "v1", "b", "v2")
    assert outbox.texts() == ["text a", "text b"]
    assert [entry.id for entry in outbox.drop_volatile()] == ["v1", "v2"]
    assert len(outbox) == 2
    assert outbox.durable("a")
    assert not outbox.durable("v1")


def test_only_what_went_out_has_an_age_and_it_counts_from_the_first_time() -> None:
    outbox = filled("a", "b", "c", "v")
    for id, now in (("a", 10.0), ("b", 20.0), ("v", 10.0), ("a", 30.0), ("gone", 10.0)):
        outbox.wrote(f"text {id}", now)
    assert not outbox.drop_written_before(10)
    assert [entry.id for entry in outbox.drop_written_before(20)] == ["a"]
    assert [entry.id for entry in outbox.entries()] == ["b", "c", "v"]


def test_clear_gives_everybody_who_waits() -> None:
    outbox = filled("a", "v1")
    assert [entry.receipt for entry in outbox.clear()] == ["receipt a", "receipt v1"]
    assert not len(outbox)
