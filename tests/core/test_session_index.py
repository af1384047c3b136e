"""Moved sessions from the arcs equal those found by asking for every uid."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import SPACE, Arc, Ring, moved_arcs
from ringway.core.session_index import SessionIndex

XX = hashing(XXH64)
positions = st.integers(0, SPACE - 1)


def test_moved_sessions_are_the_uids_whose_owner_changed() -> None:
    index: SessionIndex[str] = SessionIndex()
    uids = [f"u{i}" for i in range(20_000)]
    for uid in uids:
        index.add(XX.key(uid), uid)
    old = Ring.build({"n1": 256, "n2": 128, "n3": 256}, XX)
    for weights in ({**old.weights, "n4": 256}, {"n1": 256, "n3": 256}, {"n1": 1, "n2": 500, "n3": 9, "n5": 77}):
        new = old.with_weights(weights)
        moved = index.in_arcs(moved_arcs(old, new))
        assert len(moved) == len(set(moved))
        assert set(moved) == {u for u in uids if old.owner(u) != new.owner(u)}


@settings(max_examples=200, deadline=None)
@given(st.lists(positions, max_size=40, unique=True), positions, positions)
def test_a_query_finds_what_the_arc_contains(held: list[int], start: int, end: int) -> None:
    index: SessionIndex[int] = SessionIndex()
    for position in held:
        index.add(position, position)
    arc = Arc(start, end, "a", "b")
    assert sorted(index.in_arcs([arc])) == sorted(p for p in held if arc.contains(p))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_add_and_remove_keep_the_size(steps: list[tuple[bool, int]]) -> None:
    index: SessionIndex[int] = SessionIndex()
    model: set[int] = set()
    for add, item in steps:
        position = item * (SPACE // 31)
        (index.add if add else index.remove)(position, item)
        (model.add if add else model.discard)(item)
        assert len(index) == len(model)
    assert set(index.in_arcs([Arc(3, 3, "a", "b")])) == model
