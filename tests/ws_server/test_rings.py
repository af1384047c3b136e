"""Where a node's ring comes from while ZooKeeper is away: the mirror in Redis, if it verifies."""

from __future__ import annotations

from typing import cast

import pytest

from ringway.core.hashing import hashing
from ringway.core.history import Change, RingHistory
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument
from ringway.store.ring_mirror import RingMirror
from ringway.ws_server.rings import Rings
from ringway.zookeeper.client import ZooKeeper
from tests.zookeeper.help import ALG, KEYS, document, member

STRANGER = KeyRing.parse("x:a-secret-that-nobody-here-holds")


class Mirror:
    """What Redis has."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data


class Place:
    """The part of a node that follows the ring, without ZooKeeper."""

    def __init__(self, alg: str = ALG, key: bytes | None = None) -> None:
        self.mirror, self.seen = Mirror(), list[RingDocument]()
        zk = ZooKeeper("127.0.0.1:1")  # never started
        self.rings = Rings(
            RingHistory(hashing(alg, key)), zk, cast(RingMirror, self.mirror), KEYS, self._changed
        )  # fmt: skip

    def finds(self, data: bytes) -> list[RingDocument]:
        self.mirror.data = data
        self.rings.refresh(0.1)
        return self.seen

    def _changed(self, change: Change) -> None:
        self.seen.append(change.new.document)


def test_the_mirror_is_used_where_it_is_newer() -> None:
    place = Place()
    assert place.finds(document(1, 2).to_bytes()) == [document(1, 2)]
    assert place.finds(document(1, 1).to_bytes()) == [document(1, 2)]
    assert place.finds(document(1, 3).to_bytes()) == [document(1, 2), document(1, 3)]
    assert place.rings.alarms == {}


@pytest.mark.parametrize(
    "bad",
    [
        document(1, 2).to_bytes().replace(b'"mac":"', b'"mac":"0'),
        document(1, 2, keys=STRANGER).to_bytes(),
        document(1, 2).to_bytes().replace(b'"epoch":2', b'"epoch":9'),
        b"nonsense",
        document(1, 1, [member("other")]).to_bytes(),
    ],
    ids=["signature changed", "foreign key", "number changed", "nonsense", "same number"],
)
def test_a_mirror_that_must_not_be_used_is_dropped_with_an_alarm(bad: bytes) -> None:
    place = Place()
    place.finds(document(1, 1).to_bytes())
    assert place.finds(bad) == [document(1, 1)]
    assert place.rings.alarms == {"mirror": 1}


def test_a_mirror_of_another_rule_of_hashing_is_dropped_with_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked for a refresh goes on with the ring that there is; it must not end with the error."""
    place = Place("blake2b-keyed-v1", b"0123456789abcdef")
    assert place.finds(document(1, 1).to_bytes()) == []
    assert place.rings.alarms == {"mirror": 1}
    assert "ALARM" in caplog.text
    assert "set RINGWAY_ALG and RINGWAY_HASH_KEY alike everywhere" in caplog.text
