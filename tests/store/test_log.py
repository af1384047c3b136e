"""The log on a single server: caps, ages, what was evicted, and what is odd."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ringway.core.frames import Position
from ringway.store.keys import Keys
from ringway.store.limits import Limits
from ringway.store.log import META_TTL_S, Append, MessageLog
from tests.harness.logs import all_done, append, at, frames, ids, message
from tests.harness.waiting import wait_until


def test_a_log_over_its_cap_says_what_is_gone(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, limits=Limits(cap=100))
    done = append(log, *range(500))
    entries = log.read("u:bob", at(done[9]), limit=1000)
    assert not entries.recovered
    assert entries.seq == 500
    assert 100 <= entries.pending <= 200
    assert entries.oldest == 501 - entries.pending == entries.frames[0][0]
    assert ids(entries) == [str(number) for number in range(entries.oldest - 1, 500)]


def test_a_position_just_before_the_oldest_is_recovered(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, limits=Limits(cap=100))
    gen = append(log, *range(500))[0].gen
    oldest = log.read("u:bob", None, limit=0).oldest
    assert log.read("u:bob", Position(gen, oldest - 1)).recovered
    assert not log.read("u:bob", Position(gen, oldest - 2)).recovered


def test_everything_of_a_capped_log_is_not_everything(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, limits=Limits(cap=100))
    append(log, *range(500))
    assert not log.read("u:bob", None).recovered
    assert log.unread("bob", ["u:bob"]) == [log.read("u:bob", None).pending]


def test_unread_of_a_capped_log_counts_what_is_kept(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, limits=Limits(cap=100))
    gen = append(log, *range(500))[0].gen
    kept = log.read("u:bob", None).pending
    log.ack("bob", "u:bob", gen, 5)
    assert log.unread("bob", ["u:bob"]) == [kept]
    log.ack("bob", "u:bob", gen, 490)
    assert log.unread("bob", ["u:bob"]) == [10]


def test_asking_for_unread_makes_no_log(client: Any, log: MessageLog, keys: Keys) -> None:
    assert log.unread("bob", ["u:bob"]) == [0]
    assert client.exists(keys.meta("u:bob")) == 0


def test_a_read_stops_at_about_a_megabyte(log: MessageLog) -> None:
    body = json.dumps("x" * 60_000).encode()
    all_done(log.append_many([Append("u:bob", "alice", str(number), body) for number in range(40)]))
    entries = log.read("u:bob", None)
    assert entries.more
    assert 1 << 20 <= sum(len(frame) for _seq, frame in entries.frames) < (1 << 20) + 70_000


def test_messages_go_after_their_time_and_positions_stay(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, limits=Limits(ttl_s=1))
    done = append(log, "a", "b")
    wait_until(lambda: not client.exists(keys.log("u:bob")), 10.0, "the messages have expired")
    missed = log.read("u:bob", at(done[0]))
    assert (missed.recovered, missed.frames, missed.oldest) == (False, [], 3)
    up_to_date = log.read("u:bob", at(done[1]))
    assert (up_to_date.recovered, up_to_date.frames) == (True, [])
    assert append(log, "c")[0].seq == 3


def test_what_is_remembered_of_a_channel_outlives_its_messages(client: Any, log: MessageLog, keys: Keys) -> None:
    append(log, "a")
    assert client.ttl(keys.meta("u:bob")) > META_TTL_S - 60
    assert 7 * 86_400 <= client.ttl(keys.log("u:bob")) <= 7 * 86_400 + 3600


def test_a_log_whose_meta_was_evicted_goes_on_as_the_next_incarnation(client: Any, log: MessageLog, keys: Keys) -> None:
    before = append(log, "a", "b")
    client.delete(keys.meta("u:bob"))
    entries = log.read("u:bob", at(before[0]))
    assert (ids(entries), entries.recovered, entries.gen > before[0].gen) == (["b"], True, True)
    after = append(log, "c")[0]
    assert (after.seq, after.gen) == (3, entries.gen)


def test_a_log_that_was_evicted_is_told(client: Any, log: MessageLog, keys: Keys) -> None:
    before = append(log, "a", "b")
    client.delete(keys.log("u:bob"))
    assert not log.read("u:bob", at(before[0])).recovered
    assert log.read("u:bob", at(before[1])).recovered
    assert append(log, "c")[0].seq == 3


def test_a_log_that_was_flushed_begins_anew(client: Any, log: MessageLog, keys: Keys) -> None:
    before = append(log, "a", "b")[-1]
    client.delete(*keys.of_log("u:bob"))
    after = append(log, "c")[0]
    assert (after.seq, after.gen > before.gen) == (1, True)
    entries = log.read("u:bob", at(before))
    assert (ids(entries), entries.recovered) == (["c"], False)


def test_an_own_position_ahead_of_the_log_begins_a_new_incarnation(client: Any, log: MessageLog, keys: Keys) -> None:
    last = append(log, "a", "b")[-1]
    ahead = at(last)._replace(seq=5)
    entries = log.read("u:bob", ahead, own=True)
    assert (entries.doubtful, entries.seq, entries.gen > last.gen) == (True, 2, True)
    assert [append(log, str(number))[0].seq for number in range(3)] == [3, 4, 5]
    assert ids(log.read("u:bob", ahead)) == ["0", "1", "2"]


def test_gens_go_up_even_if_the_clock_went_back(client: Any, log: MessageLog, keys: Keys) -> None:
    append(log, "a")
    client.hset(keys.meta("u:bob"), mapping={"g": "ffff000012345abc", "r": "another"})
    assert append(log, "b")[0].gen > "ffff000012345abc"


def test_few_incarnations_are_remembered(client: Any, log: MessageLog, keys: Keys) -> None:
    first = append(log, "a")[0]
    for number in range(40):
        client.hset(keys.meta("u:bob"), "r", "another")
        append(log, number)
    assert len(client.hget(keys.meta("u:bob"), "p").split()) == 16
    assert not log.read("u:bob", at(first)).recovered


def test_ids_are_remembered_for_their_time_and_then_forgotten(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, dedup_s=1)
    append(log, "a")
    assert append(log, "a")[0].duplicate
    wait_until(lambda: not client.exists(*keys.of_log("u:bob")[2:]), 10.0, "nothing is left of it")
    assert not append(log, "a")[0].duplicate


def test_an_id_is_remembered_over_the_change_of_buckets_from_when_it_came_last(client: Any, keys: Keys) -> None:
    log = MessageLog(client, keys, dedup_s=2)
    first = append(log, "a")[0]
    for _ in range(3):
        bucket = client.time()[0] // 2
        wait_until(lambda before=bucket: client.time()[0] // 2 > before, 10.0, "the next bucket")
        again = append(log, "a")[0]
        assert (again.duplicate, at(again)) == (True, at(first))


@pytest.mark.parametrize("body", [
    {"gen": "x", "seq": 1, "ts": 2}, ',"gen":"aaaa","seq":99,"ts":1}', "x" * 300, None, "用户 🙂", {"nested": [[{}]]},
])  # fmt: skip
def test_bodies_pass_as_they_are(client: Any, log: MessageLog, keys: Keys, body: object) -> None:
    done = all_done(log.append_many([Append("u:bob", "alice", "1", json.dumps(body).encode())]))[0]
    client.delete(keys.meta("u:bob"))  # reading on needs the frame's own gen and seq
    entries = log.read("u:bob", at(done)._replace(seq=0))
    assert [frame["body"] for frame in frames(entries)] == [body]
    assert (entries.recovered, frames(entries)[0]["gen"]) == (True, entries.gen)


def test_a_script_that_redis_forgot_is_sent_again(client: Any, log: MessageLog) -> None:
    append(log, "a")
    client.script_flush()
    append(log, "b")
    client.script_flush()
    append(log, "c", "d")
    assert ids(log.read("u:bob", None)) == ["a", "b", "c", "d"]


def test_the_receivers_are_counted(log: MessageLog) -> None:
    assert log.append(message("a", notify="nobody-listens")).receivers == 0
