from __future__ import annotations

from ringway.lookup_service.gone import KEPT, Gone
from tests.lookup_service.helpers import document, rings


def test_who_left_the_ring_is_remembered_until_it_is_back() -> None:
    gone, ring = Gone(), rings()
    ring.on_change(gone.heed)
    for epoch, names in enumerate((["a", "b"], ["a"], ["a", "c"]), 1):
        ring.apply(document(epoch, names))
    assert [member.id for member in gone.members] == ["b"]
    ring.apply(document(4, ["b"]))
    assert [member.id for member in gone.members] == ["a", "c"]


def test_the_latest_are_remembered() -> None:
    gone, ring = Gone(), rings()
    ring.on_change(gone.heed)
    for epoch in range(KEPT + 10):
        ring.apply(document(epoch + 1, [f"n{epoch}"]))
    assert [member.id for member in gone.members] == [f"n{number}" for number in range(9, KEPT + 9)]
