"""What a message log promises, on a single server, on a Redis Cluster of three masters and behind Sentinel."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ringway.core.frames import Position
from ringway.store import cursors
from ringway.store.arrivals import UNREAD, USERS, Arrival
from ringway.store.client import Client, connect
from ringway.store.keys import Keys, inbox
from ringway.store.log import Append, MessageLog
from ringway.store.memberships import Memberships
from ringway.store.notices import LogNotice, decode
from ringway.store.pubsub import publish_many
from tests.harness.logs import all_done, append, at, frames, ids, message
from tests.harness.redis_fleets import RedisClusterServers, RedisSentinel
from tests.harness.redises import RealRedis

KINDS = {"single": RealRedis, "cluster": RedisClusterServers, "sentinel": RedisSentinel}


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with KINDS[request.param]() as servers:
        yield servers.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = connect(url)
    yield client
    client.close()


@pytest.fixture
def keys() -> Keys:
    return Keys(f"t{uuid.uuid4().hex[:10]}")


@pytest.fixture
def log(client: Client, keys: Keys) -> MessageLog:
    return MessageLog(client, keys)


def test_seqs_count_from_one_in_the_order_of_the_appends(log: MessageLog) -> None:
    done = append(log, "a", "b", "c")
    assert [one.seq for one in done] == [1, 2, 3]
    assert len({one.gen for one in done}) == 1
    assert ids(log.read("u:bob", None)) == ["a", "b", "c"]


def test_the_frame_that_append_returns_is_the_one_that_is_stored_and_published(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys)
    with client.pubsub() as listener:
        listener.subscribe("notices")
        assert listener.get_message(timeout=5.0)["type"] == "subscribe"
        done = all_done(log.append_many([message("a", notify="notices")]))[0]
        notice = decode(listener.get_message(timeout=5.0)["data"])
    assert notice == LogNotice("u:bob", done.gen, 1, done.frame)
    assert log.read("u:bob", None).frames == [(1, done.frame)]
    assert frames(log.read("u:bob", None))[0] | {"ts": 0} == {
        "t": "msg", "ch": "u:bob", "id": "a", "from": "alice", "body": "a", "gen": done.gen, "seq": 1, "ts": 0,
    }


def test_several_notices_are_published_in_their_order(client: Any) -> None:
    with client.pubsub() as listener:
        listener.subscribe("one", "other")
        assert [listener.get_message(timeout=5.0)["type"] for _ in range(2)] == ["subscribe"] * 2
        publish_many(client, [("one", b"1"), ("other", b"2"), ("one", b"3")])
        heard = [listener.get_message(timeout=5.0) for _ in range(3)]
    assert sorted((notice["channel"], notice["data"]) for notice in heard) == [
        (b"one", b"1"), (b"one", b"3"), (b"other", b"2")]
    assert [notice["data"] for notice in heard if notice["channel"] == b"one"] == [b"1", b"3"]


def test_the_same_id_of_the_same_sender_is_in_the_log_once(log: MessageLog) -> None:
    first = append(log, "a", "b")[0]
    again = append(log, "a")[0]
    assert (again.duplicate, at(again), again.frame) == (True, at(first), b"")
    assert ids(log.read("u:bob", None)) == ["a", "b"]


def test_ids_are_the_senders_own(log: MessageLog) -> None:
    others = [message("a", sender="carol"), message("a", ch="u:dan"), message("a", ch="g:bob")]
    assert not any(one.duplicate for one in all_done(log.append_many([message("a"), *others])))


def test_reads_go_on_after_a_position(log: MessageLog) -> None:
    done = append(log, *range(5))
    entries = log.read("u:bob", at(done[1]))
    assert (ids(entries), entries.recovered, entries.more) == (["2", "3", "4"], True, False)
    assert (entries.seq, entries.oldest, entries.pending) == (5, 1, 3)


def test_reads_come_in_pages(log: MessageLog) -> None:
    append(log, *range(200))
    got: list[str] = []
    position = None
    while True:
        entries = log.read("u:bob", position, limit=70)
        got += ids(entries)
        position = Position(entries.gen, entries.frames[-1][0])
        if not entries.more:
            break
    assert got == [str(number) for number in range(200)]


def test_a_channel_without_messages_has_a_position(log: MessageLog) -> None:
    empty = log.read("u:bob", None)
    assert (empty.seq, empty.oldest, empty.frames, empty.recovered) == (0, 1, [], True)
    append(log, "a")
    after = log.read("u:bob", Position(empty.gen, 0))
    assert (ids(after), after.recovered) == (["a"], True)


def test_a_position_of_a_log_that_is_gone_is_not_recovered(log: MessageLog) -> None:
    append(log, "a")
    entries = log.read("u:bob", Position("0123456789abcdef", 7))
    assert (entries.recovered, ids(entries)) == (False, ["a"])


def test_many_channels_are_read_at_once(log: MessageLog) -> None:
    chs = [f"u:{number}" for number in range(50)]
    all_done(log.append_many([message("a", ch=ch) for ch in chs]))
    assert [ids(entries) for entries in log.read_many(dict.fromkeys(chs)).values()] == [["a"]] * 50


def test_heads(log: MessageLog) -> None:
    last = append(log, "a", "b")[-1]
    assert log.heads(["u:bob", "u:nobody"]) == [at(last), None]
    assert log.heads([]) == []


def test_unread_is_what_was_never_acked(log: MessageLog) -> None:
    done = append(log, *range(5))
    append(log, *range(3), ch="g:team")
    assert log.unread("bob", ["u:bob", "g:team", "g:none"]) == [5, 3, 0]
    assert log.ack("bob", "u:bob", done[2].gen, 3)
    assert log.cursor("bob", "u:bob") == (done[2].gen, 3)
    assert log.unread("bob", ["u:bob", "g:team"]) == [2, 3]
    assert log.unread("carol", ["g:team"]) == [3]


def test_the_cursor_only_goes_forward(log: MessageLog) -> None:
    done = append(log, *range(5))
    gen = done[0].gen
    assert log.ack("bob", "u:bob", gen, 4)
    assert not log.ack("bob", "u:bob", gen, 2)
    assert not log.ack("bob", "u:bob", gen, 4)
    assert log.cursor("bob", "u:bob") == (gen, 4)


def test_names_of_any_shape_share_a_slot_and_do_not_meet(log: MessageLog) -> None:
    names = ["用户7", "a}b", "{a}", "a%7Db", "a:b", "}", "{", "%", "a b", "🙂" * 60]
    chs = [f"{kind}:{name}" for kind in "ug" for name in names]
    all_done(log.append_many([message(ch, ch=ch) for ch in chs]))
    for ch in chs:
        assert ids(log.read(ch, None)) == [ch]
    for name in names:
        assert log.unread(name, [f"u:{name}", f"g:{name}"]) == [1, 1]


def test_concurrent_appends_leave_no_hole_and_no_double(client: Client, keys: Keys) -> None:
    """8 threads append 50 messages each; every message is appended by two of them."""
    seen: list[tuple[str, int, bool]] = []

    def work(number: int) -> None:
        log = MessageLog(client, keys)
        for start in range(0, 50, 5):
            batch = [message(f"{number // 2}-{i}") for i in range(start, start + 5)]
            seen.extend((one.id, one.seq, one.duplicate) for one in all_done(log.append_many(batch)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seq for _id, seq, duplicate in seen if not duplicate) == list(range(1, 201))
    assert len({(message_id, seq) for message_id, seq, _ in seen}) == 200
    entries = MessageLog(client, keys).read("u:bob", None, limit=1000)
    assert [seq for seq, _frame in entries.frames] == list(range(1, 201))


def test_users_who_connect_get_what_single_reads_would_have_said(client: Client, keys: Keys, log: MessageLog) -> None:
    uids = [f"user {i} {{}}" for i in range(2 * USERS + 3)]
    for uid in uids[::2]:
        append(log, "a", "b", "c", ch=inbox(uid))
    gen = log.read(inbox(uids[0]), None).gen
    log.ack(uids[0], inbox(uids[0]), gen, 1)
    Memberships(log).add("team b", uids[0])
    Memberships(log).add("team a", uids[0])
    arrivals = [Arrival(uid, UNREAD) for uid in uids]
    arrivals[2] = Arrival(uids[2], Position(log.read(inbox(uids[2]), None).gen, 2))
    arrivals[4] = Arrival(uids[4], Position("invented", 9))
    found = log.arrive(arrivals)
    assert [len(entries.frames) for entries, _ in found] == [2, 0, 1, 0, 3] + [0, 3] * (USERS - 1)
    assert [groups for _, groups in found] == [["team a", "team b"]] + [[]] * (len(uids) - 1)
    assert [entries.recovered for entries, _ in found[:6]] == [True, True, True, True, False, True]
    for arrival, (entries, _) in zip(arrivals[1:], found[1:], strict=True):
        assert entries == log.read(inbox(arrival.uid), None if arrival.after == UNREAD else arrival.after)


def test_a_user_who_connects_keeps_the_read_cursors(client: Any, keys: Keys, log: MessageLog) -> None:
    """Even one who has nothing to ack for months; with and without a position."""
    done = append(log, "a")[0]
    for after in (UNREAD, at(done)):
        log.ack("bob", "u:bob", *at(done))
        client.expire(keys.cursor("bob"), 100)
        log.arrive([Arrival("bob", after)])
        assert client.ttl(keys.cursor("bob")) > cursors.TTL_S - 60


def test_a_cursor_that_is_ahead_of_the_log_blocks_no_later_ack(log: MessageLog) -> None:
    """Redis was wiped and its clock is behind; the ack was on its way from before."""
    done = append(log, "a", "b")[1]
    assert log.ack("bob", "u:bob", "ffff", 7)
    [(entries, _groups)] = log.arrive([Arrival("bob", UNREAD)])
    assert (ids(entries), entries.recovered) == (["a", "b"], False)
    assert log.ack("bob", "u:bob", *at(done))
    [(entries, _groups)] = log.arrive([Arrival("bob", UNREAD)])
    assert (ids(entries), entries.recovered) == ([], True)


def test_users_who_come_late_in_a_full_answer_have_more_to_read(log: MessageLog) -> None:
    uids = [f"u{i}" for i in range(8)]
    for uid in uids:
        log.append_many([Append(inbox(uid), "alice", f"m{i}", b'"%s"' % (b"x" * 60_000)) for i in range(6)])
    found = log.arrive([Arrival(uid, UNREAD) for uid in uids])
    assert all(entries.frames for entries, _ in found), "nobody is left without an answer"
    for entries, _ in found:
        last, frames_of = entries.frames[-1][0], len(entries.frames)
        assert (entries.pending, entries.more, last) == (6, frames_of < 6, frames_of)


def test_an_arrival_makes_the_inbox_so_that_there_is_a_position(log: MessageLog) -> None:
    [(entries, groups)] = log.arrive([Arrival("nobody yet", UNREAD)])
    assert (entries.seq, entries.recovered, entries.frames, groups) == (0, True, [], [])
    assert log.heads([inbox("nobody yet")]) == [Position(entries.gen, 0)]
