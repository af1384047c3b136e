"""A back end beside Redis reaches users and groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from ringway.core.errors import ConfigError, InvalidInput, InvalidUid, Unavailable
from ringway.core.hashing import XXH64, hashing
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, RingDocument, Version
from ringway.core.ring import Ring
from ringway.store import Publisher
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from ringway.store.notices import LogNotice, VolatileNotice, decode
from ringway.store.ring_mirror import RingMirror
from ringway.store.softdown import AwayRecords
from tests.harness.logs import frames, ids
from tests.harness.redises import RealRedis

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)


@pytest.fixture
def publisher(client: Any, keys: Keys) -> Publisher:
    return Publisher(client, cluster=keys.cluster)


@pytest.fixture
def listener(client: Any, keys: Keys) -> Iterator[Any]:
    """Hears what is for nodes n1 and n2 and for all."""
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        channels = (keys.node_channel("n1"), keys.node_channel("n2"), keys.all_channel, keys.group_channel("team"))
        listener.subscribe(*channels)
        for _ in channels:
            listener.get_message(timeout=5.0)
        yield listener


def publish_ring(client: Any, keys: Keys, *nodes: str, epoch: int = 1) -> Ring:
    members = [Member(node, f"ws://{node}:1/ws", f"http://{node}:1") for node in nodes]
    document = RingDocument.sign(version=Version(1, epoch), alg=XXH64, members=members, keys=KEYS)
    RingMirror(client, keys).store(document.to_bytes(), 1, epoch)
    return Ring.build(document.weights, hashing(XXH64))


def heard(listener: Any) -> tuple[str, Any]:
    message = listener.get_message(timeout=5.0)
    assert message is not None, "nothing was published"
    return message["channel"].decode(), decode(message["data"])


def test_a_body_that_cannot_be_written_is_the_callers_error(publisher: Publisher) -> None:
    deep = orjson.loads("[" * 300 + "]" * 300)
    for call in (lambda: publisher.send("bob", deep), lambda: publisher.send("bob", deep, volatile=True),
                 lambda: publisher.publish("team", deep), lambda: publisher.broadcast(deep)):
        with pytest.raises(InvalidInput, match="nested at most 254 levels deep"):
            call()


def test_the_owner_is_told(client: Any, keys: Keys, publisher: Publisher, listener: Any) -> None:
    ring = publish_ring(client, keys, "n1", "n2")
    for uid in ("alice", "bob", "carol", "dan"):
        sent = publisher.send(uid, {"text": "hi"})
        channel, notice = heard(listener)
        assert channel == keys.node_channel(ring.owner(uid))
        assert isinstance(notice, LogNotice)
        assert (notice.ch, notice.seq, notice.forwarded) == (f"u:{uid}", 1, False)
        assert orjson.loads(notice.frame)["id"] == sent.id
        assert orjson.loads(notice.frame)["from"] == ""


def test_several_users_and_repeats(client: Any, keys: Keys, publisher: Publisher) -> None:
    first = publisher.send(["alice", "bob", "alice"], "x", id="one")
    again = publisher.send(["alice", "bob", "carol"], "x", id="one")
    assert [place.ch for place in first.places] == ["u:alice", "u:bob"]
    assert [place.duplicate for place in again.places] == [True, True, False]
    assert ids(MessageLog(client, keys).read("u:alice", None)) == ["one"]


def test_without_a_ring_all_nodes_are_told_and_none_forwards(publisher: Publisher, keys: Keys, listener: Any) -> None:
    publisher.send("alice", "x")
    channel, notice = heard(listener)
    assert (channel, notice.ch, notice.forwarded) == (keys.all_channel, "u:alice", True)


def test_where_the_owner_does_not_listen_its_successor_is_told(
    client: Any, keys: Keys, publisher: Publisher, listener: Any
) -> None:
    publish_ring(client, keys, "gone")
    publisher.send("alice", "first", volatile=True)
    publish_ring(client, keys, "n1", epoch=2)
    publisher.send("alice", "second")
    channel, notice = heard(listener)
    assert (channel, orjson.loads(notice.frame)["body"]) == (keys.node_channel("n1"), "second")


def test_where_the_owner_does_not_listen_the_node_that_stands_in_is_told(
    client: Any, keys: Keys, publisher: Publisher, listener: Any
) -> None:
    publish_ring(client, keys, "gone")
    AwayRecords(client, keys).put({"alice": "n2"})
    publisher.send("alice", "x")
    assert heard(listener)[0] == keys.node_channel("n2")


def test_a_volatile_message_is_in_no_log(client: Any, keys: Keys, publisher: Publisher, listener: Any) -> None:
    publish_ring(client, keys, "n1")
    assert publisher.send("alice", "x", id="one", volatile=True).places == []
    channel, notice = heard(listener)
    assert isinstance(notice, VolatileNotice)
    assert (channel, notice.ch) == (keys.node_channel("n1"), "u:alice")
    assert orjson.loads(notice.frame).keys() == {"t", "ch", "id", "from", "body", "ts"}
    assert MessageLog(client, keys).heads(["u:alice"]) == [None]


def test_groups(client: Any, keys: Keys, publisher: Publisher, listener: Any) -> None:
    place = publisher.publish("team", [1, 2], id="one")
    assert publisher.publish("team", [1, 2], id="one").duplicate
    channel, notice = heard(listener)
    assert (channel, notice.ch, notice.gen, notice.seq) == (keys.group_channel("team"), "g:team", place.gen, 1)
    assert [frame["body"] for frame in frames(MessageLog(client, keys).read("g:team", None))] == [[1, 2]]


def test_everybody(publisher: Publisher, keys: Keys, listener: Any) -> None:
    message_id = publisher.broadcast({"maintenance": True})
    channel, notice = heard(listener)
    assert (channel, notice.ch, orjson.loads(notice.frame)["id"]) == (keys.all_channel, "*", message_id)


def test_a_ring_that_is_not_ours_is_not_believed(client: Any, keys: Keys, publisher: Publisher, listener: Any) -> None:
    foreign = KeyRing.parse("k:another-secret-of-16+")
    members = [Member("n1", "ws://n1:1/ws", "http://n1:1")]
    document = RingDocument.sign(version=Version(9, 9), alg=XXH64, members=members, keys=foreign)
    RingMirror(client, keys).store(document.to_bytes(), 9, 9)
    publisher.send("alice", "x")
    assert heard(listener)[0] == keys.all_channel


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError):
        Publisher("redis:/localhost")
    with pytest.raises(ConfigError):
        Publisher("redis://localhost", keys="short")
    with pytest.raises(InvalidUid):
        Publisher("redis://localhost").send(["alice", ""], "x")


@pytest.fixture
def own_server() -> Iterator[RealRedis]:
    """Loses its last second with the power."""
    with RealRedis(durable=True, fsync="everysec") as server:
        yield server


def test_what_redis_loses_before_the_publisher_is_closed_is_put_back(own_server: RealRedis) -> None:
    publisher = Publisher(own_server.url)
    publisher.send("bob", "kept", id="1")
    mark = own_server.journal_size()
    publisher.send("bob", "lost", id="2")
    own_server.lose_after(mark)
    publisher.close()
    with connect(own_server.url) as client:
        assert ids(MessageLog(client, Keys()).read("u:bob", None)) == ["1", "2"]


def test_once_it_has_settled_nothing_is_left_to_wait_for(publisher: Publisher) -> None:
    publisher.settle(0.0)
    publisher.send("bob", "hi")
    with pytest.raises(Unavailable, match="may still lose"):
        publisher.settle(0.0)
    publisher.settle()
    publisher.settle(0.0)


def test_while_redis_is_away_it_does_not_settle(own_server: RealRedis) -> None:
    publisher = Publisher(own_server.url)
    publisher.send("bob", "hi")
    own_server.stop()
    with pytest.raises(Unavailable):
        publisher.settle(0.5)
    own_server.start()
    publisher.close()
