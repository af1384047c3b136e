"""The ring against brute force, published vectors and its own promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ringway.core.errors import NoActiveMember
from ringway.core.hashing import BLAKE2B_KEYED, XXH64, hashing
from ringway.core.ring import SPACE, Arc, Ring, moved_arcs

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ring.json").read_text())
XX = hashing(XXH64)
UIDS = [f"user-{i}" for i in range(2000)]
weights = st.dictionaries(st.sampled_from([f"n{i}" for i in range(8)]), st.integers(1, 40), max_size=8)


def brute_owner(ring_weights: dict[str, int], position: int) -> str:
    """The definition, without sorting: the nearest point clockwise, the smaller id on a tie."""
    return min(((XX.point(n, i) - position) % SPACE, n) for n, c in ring_weights.items() for i in range(c))[1]


def test_envoys_published_points_and_lookups() -> None:
    for label, position in VECTORS["envoy"]["points"].items():
        node, _, i = label.rpartition("_")
        assert XX.point(node, int(i)) == int(position)
    assert VECTORS["envoy"]["points"]["127.0.0.1:94_0"] == "15516499411664133160"
    # RingHashLoadBalancerTest.Basic: 6 hosts, two points each.
    hosts = dict.fromkeys(VECTORS["envoy"]["hosts"], 2)
    ring = Ring.build(hosts, XX)
    for position, owner in VECTORS["envoy"]["lookups"].items():
        assert ring.owner_at(int(position)) == owner


def test_xxh64_vectors() -> None:
    for text, position in VECTORS["xxh64"].items():
        assert XX.key(text) == int(position)


def test_golden_owners_do_not_change() -> None:
    for case in VECTORS["owners"]:
        key = bytes.fromhex(case["hash_key"]) if case["hash_key"] else None
        rule = hashing(case["alg"], key)
        ring = Ring.build(case["weights"], rule)
        assert rule.name == case["name"]
        assert {uid: ring.owner(uid) for uid in case["owner"]} == case["owner"]


@settings(max_examples=60, deadline=None)
@given(weights.filter(bool), st.lists(st.integers(0, SPACE - 1), min_size=1, max_size=20))
def test_owner_is_the_first_point_clockwise(w: dict[str, int], positions: list[int]) -> None:
    ring = Ring.build(w, XX)
    assert [ring.owner_at(p) for p in positions] == [brute_owner(w, p) for p in positions]


@settings(max_examples=100, deadline=None)
@given(weights, weights)
def test_a_delta_equals_a_full_build(old: dict[str, int], new: dict[str, int]) -> None:
    delta, built = Ring.build(old, XX).with_weights(new), Ring.build(new, XX)
    assert (delta._points, delta._owners, delta.weights) == (built._points, built._owners, built.weights)


@settings(max_examples=100, deadline=None)
@given(weights.filter(bool), weights.filter(bool))
def test_moved_arcs_are_exactly_the_brute_force_set(old: dict[str, int], new: dict[str, int]) -> None:
    before, after = Ring.build(old, XX), before_after(old, new)
    arcs = moved_arcs(before, after)
    # Every border and its neighbours, where an off-by-one would show, and a spread of uids.
    borders = [p + d for p in set(before._points) | set(after._points) for d in (-1, 0, 1)]
    for position in [*(b % SPACE for b in borders), *(XX.key(u) for u in UIDS[:200])]:
        was, now = before.owner_at(position), after.owner_at(position)
        holding = [(a.old, a.new) for a in arcs if a.contains(position)]
        assert holding == ([(was, now)] if was != now else [])


def before_after(old: dict[str, int], new: dict[str, int]) -> Ring:
    return Ring.build(old, XX).with_weights(new)


def test_a_join_moves_only_to_the_joiner_and_a_leave_only_from_the_leaver() -> None:
    three = Ring.build({"n1": 256, "n2": 256, "n3": 256}, XX)
    four = three.with_weights({**three.weights, "n4": 256})
    assert {a.new for a in moved_arcs(three, four)} == {"n4"}
    assert {a.old for a in moved_arcs(four, three)} == {"n4"}


def test_a_weight_change_touches_only_that_node() -> None:
    old = Ring.build({"n1": 256, "n2": 256, "n3": 256}, XX)
    arcs = moved_arcs(old, old.with_weights({**old.weights, "n2": 128}))
    assert {a.old for a in arcs} == {"n2"}


def test_the_heir_in_the_preference_is_the_next_owner() -> None:
    ring = Ring.build({f"n{i}": 64 for i in range(6)}, XX)
    for uid in UIDS[:300]:
        owner, heir = ring.preference(uid, 2)
        assert owner == ring.owner(uid)
        left = {n: w for n, w in ring.weights.items() if n != owner}
        assert ring.with_weights(left).owner(uid) == heir


def test_preference_names_each_node_once_and_no_more_than_there_are() -> None:
    ring = Ring.build({"n1": 3, "n2": 3}, XX)
    assert sorted(ring.preference("alice", 9)) == ["n1", "n2"]


def test_an_empty_ring_says_so() -> None:
    ring = Ring.build({}, XX)
    assert ring.preference("alice", 2) == ()
    assert moved_arcs(ring, Ring.build({"n1": 4}, XX)) == []
    for ask in (lambda: ring.owner("alice"), lambda: ring.vnode_at(7)):
        with pytest.raises(NoActiveMember, match="start one"):
            ask()


def test_a_collision_is_won_by_the_smaller_id_whatever_the_order() -> None:
    colliding = type(XX)("test", XX.key, lambda node, i: 1000 * i if node != "c" else 500)
    one, other = Ring.build({"a": 3, "b": 3}, colliding), Ring.build({"b": 3}, colliding)
    assert one._owners == other.with_weights({"b": 3, "a": 3})._owners == ["a", "b"] * 3
    assert one.with_weights({"b": 3})._owners == ["b"] * 3
    assert one.owner_at(1000) == "a"


def test_shares_add_up_and_balance_as_theory_says() -> None:
    shares = Ring.build({f"n{i}": 256 for i in range(10)}, XX).shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares.values()) * 10 < 1.25


def test_node_names_that_end_in_digits_share_no_points() -> None:
    ring = Ring.build({"node1": 200, "node11": 200}, XX)
    assert len(set(ring._points)) == 400


def test_a_keyed_ring_depends_on_the_key() -> None:
    one, other = (hashing(BLAKE2B_KEYED, bytes([n]) * 16) for n in (1, 2))
    assert one.name != other.name
    assert one.key("alice") != other.key("alice")
    with pytest.raises(ValueError, match="cannot be compared"):
        moved_arcs(Ring.build({"n1": 2}, one), Ring.build({"n1": 2}, other))


def test_an_arc_wraps() -> None:
    arc = Arc(SPACE - 10, 5, "a", "b")
    assert [arc.contains(p) for p in (SPACE - 10, SPACE - 9, 0, 5, 6)] == [False, True, True, True, False]
    assert Arc(7, 7, "a", "b").contains(7)
    assert xxhash.xxh64_intdigest(b"") == 17241709254077376921
