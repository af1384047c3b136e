from __future__ import annotations

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
