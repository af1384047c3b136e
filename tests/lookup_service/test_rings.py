from __future__ import annotations

import pytest

from ringway.core.errors import DocumentCorrupt, NoActiveMember
from ringway.core.history import Change
from ringway.core.members import State
from ringway.lookup_service.rings import CANDIDATES, Rings
from tests.lookup_service.helpers import HASHING, document, member, rings


def test_documents_apply_in_their_order_whatever_the_order_of_arrival() -> None:
    made = rings("n1", epoch=3)
    changes: list[Change] = []
    made.on_change(changes.append)
    for epoch in (2, 3, 5, 4, 5, 1):
        made.apply(document(epoch, ["n1", "n2"] if epoch == 5 else ["n1"]))
    assert made.current().view.version.epoch == 5
    assert [change.new.version.epoch for change in changes] == [5]


def test_two_documents_of_one_number_are_an_alarm_and_change_nothing() -> None:
    made = rings("n1", epoch=3)
    with pytest.raises(DocumentCorrupt):
        made.apply(document(3, ["n2"]))
    assert set(made.current().view.ring.weights) == {"n1"}


def test_there_is_no_answer_without_an_active_member() -> None:
    made = Rings(HASHING)
    with pytest.raises(NoActiveMember):
        made.current()
    made.apply(document(1, [member("n1", State.DRAINING)]))
    with pytest.raises(NoActiveMember):
        made.current()
    assert made.latest is not None
    assert made.latest.states == {"active": 0, "draining": 1}


def test_a_reader_keeps_the_ring_it_took() -> None:
    made = rings("n1", epoch=1)
    taken = made.current()
    made.apply(document(2, ["n1", "n2"]))
    assert set(taken.view.ring.weights) == {"n1"}
    assert set(made.current().view.ring.weights) == {"n1", "n2"}


def test_candidates_are_the_rings_preference_for_every_uid_of_a_point() -> None:
    current = rings("n1", "n2", "n3", "n4").current()
    for uid in [f"user-{i}" for i in range(3000)] * 2:  # most points are met twice by different users
        assert current.candidates(uid) == current.view.ring.preference(uid, CANDIDATES)


def test_a_ring_of_one_node_has_one_candidate() -> None:
    assert rings("n1").current().candidates("alice") == ("n1",)
