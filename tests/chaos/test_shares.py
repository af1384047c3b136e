"""Whose owner a ring changed, as the lookups published it."""

from __future__ import annotations

from typing import Any

import pytest

from ringway.chaos.shares import RingWatch, UnknownRing, moves, owners

UIDS = [f"user-{i}" for i in range(300)]
THREE = {"n1": 256, "n2": 256, "n3": 256}


def document(epoch: int, alg: str = "xxh64-v1", **states: str) -> dict[str, Any]:
    members = [{"id": node, "vnodes": 256, "state": state} for node, state in states.items()]
    return {"gen": 7, "epoch": epoch, "alg": alg, "members": members}


def test_a_node_that_goes_gives_its_own_users_away_and_one_that_returns_gets_them_back() -> None:
    two = {node: count for node, count in THREE.items() if node != "n2"}
    of_two = {uid for uid, node in owners(THREE, UIDS).items() if node == "n2"}
    assert moves([THREE, two], UIDS) == dict.fromkeys(of_two, 1)
    assert moves([THREE, two, THREE], UIDS) == dict.fromkeys(of_two, 2)
    assert moves([THREE], UIDS) == {}


def test_only_newer_documents_count_and_only_active_members() -> None:
    watch = RingWatch([])
    watch.heed(document(5, n1="active", n2="active"))
    watch.heed(document(4, n1="active"))
    watch.heed(document(6, n1="active", n2="active", n3="joining"))
    watch.heed(document(7, n1="active", n2="draining"))
    watch.heed(document(8))
    assert watch.rings == [{"n1": 256, "n2": 256}, {"n1": 256}]
    assert set(watch.owners(UIDS).values()) == {"n1"}


def test_owners_that_cannot_be_told_are_said_to_be_so() -> None:
    watch = RingWatch([])
    with pytest.raises(UnknownRing, match="no lookup"):
        watch.moves(UIDS)
    watch.heed(document(1, "blake2b-keyed-v1-abc", n1="active"))
    with pytest.raises(UnknownRing, match="known to its key alone"):
        watch.owners(UIDS)
