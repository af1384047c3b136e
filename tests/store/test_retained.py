"""What is kept of the appends that had their ok."""

from __future__ import annotations

import pytest

from ringway.core.frames import Position
from ringway.store.retained import Append, Kept, Retained


def kept(at: float, number: int = 0, slot: int = 0) -> Kept:
    return Kept(at, Append("u:bob", "alice", str(number), b"1"), Position("g", number), slot)


def taken(retained: Retained, *slots: int) -> list[Kept]:
    """What a Redis of a new replication id takes over."""
    return [one for _replid, one in retained.take(slots or (0,), "new")]


def test_only_the_window_before_the_last_ok_is_kept() -> None:
    retained = Retained(window_s=3.0)
    for at in range(10):
        retained.add("a", [kept(float(at))])
    assert [one.at for one in taken(retained)] == [6.0, 7.0, 8.0, 9.0]


def test_an_outage_does_not_age_what_is_kept() -> None:
    """The window counts to the last ok, not to now: Redis lost what it had before it went."""
    retained = Retained(window_s=3.0)
    retained.add("a", [kept(0.0)])
    retained.add("b", [kept(1000.0)])
    assert [one.at for _replid, one in retained.take((0,), "b")] == [0.0]


def test_what_was_taken_is_gone_unless_put_back() -> None:
    retained = Retained()
    for number in range(3):
        retained.add("a", [kept(0.0, number)])
    pairs = retained.take((0,), "b")
    assert (len(pairs), retained.take((0,), "b"), len(retained)) == (3, [], 0)
    retained.add("a", [kept(1.0, 9)])
    retained.put_back(pairs)
    assert [one.append.id for one in taken(retained)] == ["0", "1", "2", "9"]


def test_a_slot_is_taken_without_the_others_and_from_every_redis_but_the_one_that_has_it_now() -> None:
    retained = Retained()
    for number, (replid, slot) in enumerate([("a", 1), ("a", 2), ("b", 1), ("new", 1)]):
        retained.add(replid, [kept(0.0, number, slot)])
    assert [one.append.id for one in taken(retained, 1)] == ["0", "2"]
    assert [one.append.id for one in taken(retained, 2, 1)] == ["1"]
    assert len(retained) == 1


def test_what_a_redis_that_lives_has_had_for_long_enough_is_let_go() -> None:
    retained = Retained()
    for at in (1.0, 2.0, 3.0):
        retained.add("lives", [kept(at)])
        retained.add("gone", [kept(at)])
    retained.let_go({"lives", "never heard of"}, 2.5)
    assert [(replid, one.at) for replid, one in retained.take((0,), "new")] == [
        ("lives", 3.0), ("gone", 1.0), ("gone", 2.0), ("gone", 3.0),
    ]


@pytest.mark.parametrize("limit", [1, 10])
def test_the_number_is_bounded(limit: int) -> None:
    retained = Retained(limit=limit)
    for number in range(25):
        retained.add("a", [kept(0.0, number)])
    assert len(retained) == limit
    assert taken(retained)[-1].append.id == "24"
