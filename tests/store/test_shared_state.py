"""The ring's mirror, softdown marks, away records, node figures."""

from __future__ import annotations

from typing import Any

from ringway.store.keys import Keys
from ringway.store.node_stats import NodeStats
from ringway.store.ring_mirror import RingMirror
from ringway.store.softdown import AwayRecords, SoftDownMarks
from tests.harness.waiting import wait_until


def test_the_mirror_never_goes_back(client: Any, keys: Keys) -> None:
    mirror = RingMirror(client, keys)
    assert mirror.load() is None
    assert mirror.store(b"first", 100, 9)
    for gen, epoch in ((100, 9), (100, 8), (99, 50)):
        assert not mirror.store(b"older", gen, epoch)
    assert mirror.load() == b"first"
    assert mirror.store(b"next", 100, 10)
    assert mirror.store(b"other history", 101, 1)
    assert mirror.load() == b"other history"


def test_a_forged_copy_can_be_taken_away_and_no_other(client: Any, keys: Keys) -> None:
    mirror = RingMirror(client, keys)
    mirror.store(b"forged", 2**50, 1)
    assert not mirror.store(b"real", 100, 9)
    assert not mirror.discard(b"another")
    assert mirror.discard(b"forged")
    assert mirror.load() is None
    assert mirror.store(b"real", 100, 9)


def test_the_mirror_tells_what_it_stores(client: Any, keys: Keys) -> None:
    mirror = RingMirror(client, keys)
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(keys.ring_channel)
        listener.get_message(timeout=5.0)
        mirror.store(b"first", 1, 1)
        mirror.store(b"first again", 1, 1)
        mirror.store(b"second", 1, 2)
        heard = [listener.get_message(timeout=5.0)["data"] for _ in range(2)]
    assert heard == [b"first", b"second"]


def test_marks_end_by_themselves(client: Any, keys: Keys) -> None:
    marks = SoftDownMarks(client, keys)
    marks.mark("n1", 0.2)
    marks.mark("n2", 60.0)
    marks.mark("n3")
    assert marks.marked() == {"n1", "n2", "n3"}
    wait_until(lambda: marks.marked() == {"n2", "n3"}, 5.0, "the short mark has ended")
    marks.unmark("n2")
    marks.unmark("never marked")
    assert marks.marked() == {"n3"}


def test_a_shorter_mark_does_not_end_a_longer_one(client: Any, keys: Keys) -> None:
    marks = SoftDownMarks(client, keys)
    marks.mark("n1", 60.0)
    marks.mark("n1", 0.05)
    marks.mark("n2", 0.1)
    wait_until(lambda: marks.marked() == {"n1"}, 5.0, "the short marks have ended")


def test_away_records(client: Any, keys: Keys) -> None:
    away = AwayRecords(client, keys)
    away.put({"alice": "n1", "bob": "n2"})
    away.put({"carol": "n3"}, ttl_s=0.1)
    assert away.of(["alice", "bob", "nobody"]) == {"alice": "n1", "bob": "n2"}
    wait_until(lambda: away.of(["carol"]) == {}, 5.0, "the record has ended")
    assert away.of([]) == {}


def test_node_figures_vanish_with_the_node(client: Any, keys: Keys) -> None:
    stats = NodeStats(client, keys)
    stats.publish("n1", {"sessions": 7})
    stats.publish("n2", {"sessions": 8}, ttl_s=0.1)
    assert stats.read(["n1", "n3"]) == {"n1": {"sessions": 7}}
    wait_until(lambda: "n2" not in stats.read(["n1", "n2"]), 5.0, "the silent node's figures are gone")
    assert stats.read([]) == {}
