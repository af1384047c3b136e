from __future__ import annotations

from collections import Counter

import pytest

from ringway.lookup_service.placement import place
from tests.lookup_service.helpers import rings

CURRENT = rings("n1", "n2", "n3", "n4").current()
VIEW = CURRENT.view
UIDS = [f"user-{i}" for i in range(300)]


def test_the_owner_is_the_answer() -> None:
    for uid in UIDS:
        placed = place(CURRENT, uid)
        assert (placed.member.id, placed.reason) == (VIEW.ring.owner(uid), "route")
        assert placed.candidates == VIEW.ring.preference(uid, 3)


def test_a_marked_owner_is_passed_over_for_the_next_owner() -> None:
    without = rings("n1", "n3", "n4").current().view
    for uid in UIDS:
        placed = place(CURRENT, uid, frozenset({"n2"}))
        assert placed.member.id == without.ring.owner(uid)  # where it will be once n2 has left the ring
        assert placed.reason == ("softdown" if placed.owner == "n2" else "route")


def test_several_marks() -> None:
    for uid in UIDS:
        assert place(CURRENT, uid, frozenset({"n1", "n2", "n3"})).member.id == "n4"


def test_when_all_are_marked_the_owner_is_the_answer() -> None:
    for uid in UIDS:
        placed = place(CURRENT, uid, frozenset({"n1", "n2", "n3", "n4"}))
        assert (placed.member.id, placed.reason) == (VIEW.ring.owner(uid), "route")


def test_a_crowd_knows_the_part_of_its_busiest_node() -> None:
    down = frozenset({"n2"})
    placed = [place(CURRENT, uid, down) for uid in UIDS]
    (part,) = {one.crowd_part for one in placed if one.reason == "softdown"}
    assert part is not None
    assert 1 / 3 < part < 1 / 2
    heirs = Counter(place(CURRENT, f"u{i}", down).member.id for i in range(20_000) if VIEW.ring.owner(f"u{i}") == "n2")
    assert max(heirs.values()) / heirs.total() == pytest.approx(part, abs=0.02)
    assert {one.crowd_part for one in placed if one.reason == "route"} == {None}


def test_a_crowd_of_which_one_node_takes_all_has_no_pace_of_its_own() -> None:
    two = rings("n1", "n2").current()
    assert {place(two, uid, frozenset({"n2"})).crowd_part for uid in UIDS} == {None}
