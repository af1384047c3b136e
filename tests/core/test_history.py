"""Readers of ring documents are monotonic."""

from __future__ import annotations

import threading

import pytest

from ringway.core.errors import ConfigError, DocumentCorrupt
from ringway.core.hashing import XXH64, hashing
from ringway.core.history import RingHistory
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, RingDocument, Version

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)


def document(gen: int, epoch: int, *ids: str, alg: str = XXH64) -> RingDocument:
    members = [Member(i, f"ws://{i}/ws", f"http://{i}") for i in ids]
    return RingDocument.sign(version=Version(gen, epoch), alg=alg, members=members, keys=KEYS)


def test_a_newer_document_is_applied_and_the_change_is_told() -> None:
    history = RingHistory(hashing(XXH64))
    first = history.apply(document(1, 1, "n1"))
    second = history.apply(document(1, 2, "n1", "n2"))
    assert first is not None
    assert first.arcs == []
    assert second is not None
    assert {a.new for a in second.arcs} == {"n2"}
    assert history.version == Version(1, 2)


def test_older_and_equal_documents_are_ignored() -> None:
    history = RingHistory(hashing(XXH64))
    history.apply(document(2, 5, "n1"))
    for gen, epoch in ((2, 5), (2, 4), (1, 99)):
        assert history.apply(document(gen, epoch, "n1")) is None
    assert history.version == Version(2, 5)
    assert history.apply(document(3, 1, "n2")) is not None


def test_two_documents_of_one_number_are_an_alarm() -> None:
    history = RingHistory(hashing(XXH64))
    history.apply(document(1, 1, "n1"))
    with pytest.raises(DocumentCorrupt, match=r"1\.1"):
        history.apply(document(1, 1, "n2"))


def test_another_algorithm_is_refused_and_changes_nothing() -> None:
    history = RingHistory(hashing(XXH64))
    history.apply(document(1, 1, "n1"))
    with pytest.raises(ConfigError, match="RINGWAY_ALG"):
        history.apply(document(1, 2, "n1", alg="blake2b-keyed-v1/12345678"))
    assert history.version == Version(1, 1)


def test_the_view_finds_members_and_owners() -> None:
    history = RingHistory(hashing(XXH64))
    history.apply(document(1, 1, "n1", "n2"))
    view = history.current
    assert view is not None
    assert view.owner("alice").id == view.ring.owner("alice")
    assert view.member("n3") is None


def test_lookups_from_many_threads_while_the_ring_is_replaced_are_always_right() -> None:
    """Each answer is right for a ring that was current during the lookup (known bugs b1 and b2)."""
    history = RingHistory(hashing(XXH64))
    history.apply(document(1, 1, "n1", "n2", "n3"))
    uids = [f"u{i}" for i in range(200)]
    rings = [RingHistory(hashing(XXH64)) for _ in range(2)]
    for ring, ids in zip(rings, (("n1", "n2", "n3"), ("n1", "n2", "n3", "n4")), strict=True):
        ring.apply(document(1, 1, *ids))
    right = {uid: {view.owner(uid).id for view in (r.current for r in rings) if view} for uid in uids}
    done, wrong = threading.Event(), []

    def look_up() -> None:
        while not done.is_set():
            wrong.extend(uid for uid in uids if history.current and history.current.owner(uid).id not in right[uid])

    readers = [threading.Thread(target=look_up) for _ in range(4)]
    for reader in readers:
        reader.start()
    for epoch in range(2, 300):
        history.apply(document(1, epoch, "n1", "n2", "n3", *(["n4"] if epoch % 2 else [])))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
