"""What is kept of the appends that had their ok."""

from __future__ import annotations

import gc

import pytest

from ringway.core.frames import Position
from ringway.store.retained import Append, Kept, Retained


def message(number: int) -> Append:
    return Append("u:bob", "alice", str(number), b"1", "notify" if number % 2 else None)


def add(retained: Retained, replid: str, at: float, *numbers: int, slot: int = 0) -> None:
    """In one go; each has its number as its id and its seq."""
    retained.add(replid, at, slot, [(message(number), "g", number) for number in numbers])


def taken(retained: Retained, *slots: int) -> list[Kept]:
    """What a Redis of a new replication id takes over."""
    return [one for _replid, one in retained.take(slots or (0,), "new")]


def test_only_the_window_before_the_last_ok_is_kept() -> None:
    retained = Retained(window_s=3.0)
    for at in range(10):
        add(retained, "a", float(at), 0)
    assert [one.at for one in taken(retained)] == [6.0, 7.0, 8.0, 9.0]


def test_an_outage_does_not_age_what_is_kept() -> None:
    """The window counts to the last ok, not to now: Redis lost what it had before it went."""
    retained = Retained(window_s=3.0)
    add(retained, "a", 0.0, 0)
    add(retained, "b", 1000.0, 0)
    assert [one.at for _replid, one in retained.take((0,), "b")] == [0.0]


def test_what_was_taken_is_gone_unless_put_back() -> None:
    retained = Retained()
    for number in range(3):
        add(retained, "a", 0.0, number)
    pairs = retained.take((0,), "b")
    assert (len(pairs), retained.take((0,), "b"), len(retained)) == (3, [], 0)
    add(retained, "a", 1.0, 9)
    retained.put_back(pairs)
    assert [one.append.id for one in taken(retained)] == ["0", "1", "2", "9"]


def test_what_was_added_in_one_go_is_taken_one_by_one() -> None:
    retained = Retained()
    add(retained, "a", 1.0, 1, 2, slot=5)
    add(retained, "a", 2.0, 3, slot=5)
    expected = [Kept(at, message(number), Position("g", number), 5) for at, number in ((1.0, 1), (1.0, 2), (2.0, 3))]
    assert (len(retained), retained.channels()) == (3, ["u:bob"])
    pairs = retained.take((5,), "b")
    assert pairs == [("a", one) for one in expected]
    retained.put_back(pairs[1:])
    assert len(retained) == 2
    assert retained.take((5,), "b") == pairs[1:]


def test_what_comes_in_one_go_over_the_limit_pushes_out_what_was_before() -> None:
    retained = Retained(limit=3)
    for numbers in ((1,), (2, 3), (4, 5)):
        add(retained, "a", 0.0, *numbers)
    assert [one.append.id for one in taken(retained)] == ["3", "4", "5"]


def test_what_is_kept_is_nothing_to_the_garbage_collector() -> None:
    retained = Retained()
    gc.collect()
    before = len(gc.get_objects())
    for number in range(2000):
        add(retained, "a", 0.0, number)
    assert len(gc.get_objects()) - before < 100


def test_a_slot_is_taken_without_the_others_and_from_every_redis_but_the_one_that_has_it_now() -> None:
    retained = Retained()
    for number, (replid, slot) in enumerate([("a", 1), ("a", 2), ("b", 1), ("new", 1)]):
        add(retained, replid, 0.0, number, slot=slot)
    assert [one.append.id for one in taken(retained, 1)] == ["0", "2"]
    assert [one.append.id for one in taken(retained, 2, 1)] == ["1"]
    assert len(retained) == 1


def test_what_a_redis_that_lives_has_had_for_long_enough_is_let_go() -> None:
    retained = Retained()
    for at in (1.0, 2.0, 3.0):
        add(retained, "lives", at, 0)
        add(retained, "gone", at, 0)
    retained.let_go({"lives", "never heard of"}, 2.5)
    assert [(replid, one.at) for replid, one in retained.take((0,), "new")] == [
        ("lives", 3.0), ("gone", 1.0), ("gone", 2.0), ("gone", 3.0),
    ]


@pytest.mark.parametrize("limit", [1, 10])
def test_the_number_is_bounded(limit: int) -> None:
    retained = Retained(limit=limit)
    for number in range(25):
        add(retained, "a", 0.0, number)
    assert len(retained) == limit
    assert taken(retained)[-1].append.id == "24"
