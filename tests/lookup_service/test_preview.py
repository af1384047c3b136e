from __future__ import annotations

import pytest

from ringway.core.history import Change
from ringway.lookup_service.preview import UNKNOWN, Wanted, moved, preview
from tests.lookup_service.helpers import rings

VIEW = rings("n1", "n2", "n3").current().view
UIDS = [f"user-{i}" for i in range(3000)]
PRESENT = {node: [uid for uid in UIDS if VIEW.ring.owner(uid) == node] for node in ("n1", "n2", "n3")}


@pytest.mark.parametrize(
    ("wanted", "weights"),
    [
        (Wanted(("n4",), (), 256), {"n1": 256, "n2": 256, "n3": 256, "n4": 256}),
        (Wanted((), ("n2",), 256), {"n1": 256, "n3": 256}),
        (Wanted(("n4", "n5"), ("n1",), 128), {"n2": 256, "n3": 256, "n4": 128, "n5": 128}),
        (Wanted(("n1",), (), 512), {"n1": 512, "n2": 256, "n3": 256}),
    ],
)
def test_it_counts_what_brute_force_counts(wanted: Wanted, weights: dict[str, int]) -> None:
    said = preview(VIEW, wanted, PRESENT)
    new = VIEW.ring.build(weights, VIEW.ring.hashing)
    moved = [(VIEW.ring.owner(uid), new.owner(uid)) for uid in UIDS if VIEW.ring.owner(uid) != new.owner(uid)]
    assert (said["sessions"], said["sessions_moved"]) == (len(UIDS), len(moved))
    assert {(m["from"], m["to"]): m["sessions"] for m in said["moves"]} == {p: moved.count(p) for p in set(moved)}
    assert said["moved_share"] == pytest.approx(len(moved) / len(UIDS), abs=0.03)
    after = {node["id"]: node for node in said["nodes"]}
    for node, share in new.shares().items():
        assert after[node]["share_after"] == share
        assert after[node]["sessions_after"] == sum(new.owner(uid) == node for uid in UIDS)
    assert sum(node["share_before"] for node in said["nodes"]) == pytest.approx(1.0)
    for gone in wanted.remove:
        assert (after[gone]["share_after"], after[gone]["sessions_after"], after[gone]["vnodes"]) == (0.0, 0, 0)


def test_a_change_that_is_none_moves_nobody() -> None:
    said = preview(VIEW, Wanted(("n1",), (), 256), PRESENT)
    assert (said["sessions_moved"], said["moved_share"], said["moves"]) == (0, 0, [])


def test_a_user_on_two_nodes_counts_once() -> None:
    said = preview(VIEW, Wanted(("n4",), (), 256), {"n1": ["alice"], "n2": ["alice"]})
    assert said["sessions"] == 1


def test_a_change_moves_about_as_many_sessions_as_a_count_finds() -> None:
    ring = rings("n1", "n2", "n3", "n4", epoch=2).current().view
    sessions = {node: len(uids) for node, uids in PRESENT.items()}
    told = moved(Change(VIEW, ring), sessions)
    leaving = [uid for uid in UIDS if VIEW.ring.owner(uid) != ring.ring.owner(uid)]
    assert told["sessions_moved"] == pytest.approx(len(leaving), rel=0.1)
    assert told["moved"] == pytest.approx(len(leaving) / len(UIDS), abs=0.03)
    assert moved(Change(VIEW, ring), {"n1": 5})["sessions_moved"] is None
    assert moved(Change(None, ring), sessions) == UNKNOWN
