"""What a restart of Redis costs: nothing where it kept its data, and what it lost is there again or is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.limits import Limits
from ringway.store.log import Appended, MessageLog
from tests.harness.logs import append, at, frames, ids, message
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until


@pytest.fixture
def redis() -> Iterator[RealRedis]:
    with RealRedis(durable=True, fsync="everysec") as server:
        yield server


@pytest.fixture
def client(redis: RealRedis) -> Iterator[Client]:
    client = connect(redis.url, timeout_s=1.0)
    yield client
    client.close()


@pytest.fixture
def log(client: Client) -> MessageLog:
    return MessageLog(client, Keys(), grace_s=0.0)


@pytest.fixture
def other(client: Client) -> MessageLog:
    """Another process's log: it has sent nothing, so it has nothing to send again."""
    return MessageLog(client, Keys(), grace_s=0.0)


def all_frames(log: MessageLog) -> list[dict[str, Any]]:
    entries = log.read("u:bob", None)
    found = frames(entries)
    while entries.more:
        entries = log.read("u:bob", Position(entries.gen, entries.frames[-1][0]))
        found += frames(entries)
    return found


def wait_for_more(done: dict[int, list[str]]) -> None:
    size = sum(map(len, done.values()))
    wait_until(lambda: sum(map(len, done.values())) > size + 200, 30.0, "messages go through")


def test_positions_stay_good_over_a_clean_restart(redis: RealRedis, log: MessageLog, other: MessageLog) -> None:
    before = append(log, "a", "b", "c")
    redis.stop()
    redis.start()
    entries = other.read("u:bob", at(before[0]))
    assert (ids(entries), entries.recovered) == (["b", "c"], True)
    after = append(log, "d")[0]
    assert after.seq == 4
    assert after.gen > before[0].gen
    assert ids(other.read("u:bob", at(before[-1]))) == ["d"]


def test_all_that_a_read_returns_has_the_current_gen(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a", "b")
    redis.restart()
    last = append(log, "c")[0]
    found = frames(log.read("u:bob", None))
    assert [(frame["gen"], frame["seq"]) for frame in found] == [(last.gen, 1), (last.gen, 2), (last.gen, 3)]
    assert [frame["body"] for frame in found] == ["a", "b", "c"]


def test_positions_stay_good_over_several_restarts(redis: RealRedis, log: MessageLog) -> None:
    first = append(log, "a")[0]
    for name in "bcd":
        redis.restart()
        append(log, name)
    entries = log.read("u:bob", at(first))
    assert (ids(entries), entries.recovered) == (["b", "c", "d"], True)


def test_a_message_that_had_its_ok_and_was_lost_is_appended_again_before_newer_ones(
    redis: RealRedis, log: MessageLog
) -> None:
    append(log, "a", "b")
    mark = redis.journal_size()
    lost = append(log, "c", "d")
    redis.lose_after(mark)
    append(log, "e")
    entries = log.read("u:bob", None)
    assert ids(entries) == ["a", "b", "c", "d", "e"]
    was = [frame.get("was") for frame in frames(entries)]
    assert was == [None, None, {"gen": lost[0].gen, "seq": 3}, {"gen": lost[1].gen, "seq": 4}, None]
    assert (log.restarts, log.resent) == (1, 2)


def test_a_read_notices_the_restart_as_well(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a")
    mark = redis.journal_size()
    append(log, "b")
    redis.lose_after(mark)
    log.read("u:someone", None)
    assert ids(log.read("u:bob", None)) == ["a", "b"]


def test_a_message_that_was_found_in_the_log_is_kept_like_one_that_was_added(
    redis: RealRedis, log: MessageLog, other: MessageLog
) -> None:
    """Its first ok went to a node that is gone, or broke off on the way; who sent it has the ok to the second try."""
    append(log, "a")
    mark = redis.journal_size()
    first = append(other, "b")[0]
    again = append(log, "b", "c")[0]
    assert (again.duplicate, at(again)) == (True, at(first))
    redis.lose_after(mark)
    append(log, "d")
    entries = log.read("u:bob", at(first))
    assert (ids(entries), entries.recovered) == (["b", "c", "d"], True)
    assert frames(entries)[0]["was"] == {"gen": first.gen, "seq": first.seq}


def test_what_survived_is_not_doubled(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a", "b")
    redis.restart()
    append(log, "c")
    assert ids(log.read("u:bob", None)) == ["a", "b", "c"]
    assert (log.restarts, log.resent) == (1, 0)


def test_what_redis_may_have_forgotten_by_now_is_not_sent_again(redis: RealRedis, client: Client) -> None:
    now = [0.0]
    log = MessageLog(client, Keys(), dedup_s=100, clock=lambda: now[0])
    append(log, "a")
    mark = redis.journal_size()
    append(log, "b")
    now[0] = 60.0
    redis.lose_after(mark)
    append(log, "c")
    assert ids(log.read("u:bob", None)) == ["a", "c"]


def test_a_lost_seq_is_given_out_again_under_another_gen_only(
    redis: RealRedis, log: MessageLog, other: MessageLog
) -> None:
    append(log, "a")
    mark = redis.journal_size()
    lost = append(log, "b")[0]
    redis.lose_after(mark)
    new = append(other, "x")[0]
    assert new.seq == lost.seq
    assert new.gen > lost.gen
    entries = other.read("u:bob", at(lost))
    assert (ids(entries), entries.recovered) == (["x"], False)


def test_a_proven_loss_is_told_to_those_who_cannot_know(redis: RealRedis, log: MessageLog, other: MessageLog) -> None:
    had_all_but_one = append(log, "a")[0]
    mark = redis.journal_size()
    lost = append(log, "b")[0]
    redis.lose_after(mark)
    assert other.read("u:bob", at(had_all_but_one)).recovered
    other.read("u:bob", at(lost), own=True)
    assert not other.read("u:bob", at(had_all_but_one)).recovered


def test_what_is_back_is_no_gap(redis: RealRedis, client: Client, log: MessageLog, other: MessageLog) -> None:
    """In doubt until it is; whoever asks."""
    patient = MessageLog(client, Keys(), grace_s=60.0)
    had_all_but_two = append(log, "a")[0]
    mark = redis.journal_size()
    had_one_more, had_all = append(log, "b", "c")
    redis.lose_after(mark)
    for position in (had_one_more, had_all):
        assert patient.read("u:bob", at(position)).doubtful
    assert not patient.read("u:bob", at(had_all_but_two)).doubtful  # nobody has said yet that there was more
    patient.read("u:bob", at(had_all), own=True)
    assert patient.read("u:bob", at(had_all_but_two)).doubtful
    log.carry_over()
    for reader in (patient, other):
        for position in (had_all_but_two, had_one_more, had_all):
            entries = reader.read("u:bob", at(position))
            assert (ids(entries), entries.recovered, entries.doubtful) == (["b", "c"], True, False)


def test_one_of_two_senders_is_gone_for_good(redis: RealRedis, log: MessageLog, other: MessageLog) -> None:
    before = append(log, "a")[0]
    mark = redis.journal_size()
    append(log, "b")
    gone = append(MessageLog(log.client, Keys()), "never again")[0]
    last = append(log, "d")[0]
    redis.lose_after(mark)
    log.carry_over()
    assert gone.seq == 3
    for position in (before, last):
        entries = other.read("u:bob", at(position))
        assert (ids(entries), entries.recovered) == (["b", "d"], False)
    assert other.read("u:bob", at(append(log, "e")[0])).recovered


def test_a_message_counts_as_back_once(redis: RealRedis, client: Client, log: MessageLog, other: MessageLog) -> None:
    """Its client sends it again, and then the node that had the ok does."""
    before = append(log, "a")[0]
    mark = redis.journal_size()
    append(log, "b")
    append(MessageLog(client, Keys()), "gone")
    last = append(log, "d")[0]
    redis.lose_after(mark)
    append(other, "b")
    log.carry_over()
    other.read("u:bob", at(last), own=True)
    entries = other.read("u:bob", at(before))
    assert (ids(entries), entries.recovered) == (["b", "d"], False)


def test_an_incarnation_that_redis_lost_whole_is_no_gap_once_its_messages_are_back(
    redis: RealRedis, log: MessageLog, other: MessageLog
) -> None:
    """It began with the first message after a clean restart, and power failed right behind that."""
    before = append(log, "a", "b")[-1]
    redis.restart()
    mark = redis.journal_size()
    had_one, had_all = append(log, "c", "d")
    assert had_all.gen > before.gen
    redis.lose_after(mark)
    log.carry_over()
    for position in (before, had_one, had_all):
        entries = other.read("u:bob", at(position))
        assert (ids(entries), entries.recovered) == (["c", "d"], True)
    assert append(log, "e")[0].gen > had_all.gen
    assert ids(other.read("u:bob", at(had_all))) == ["c", "d", "e"]


def test_an_incarnation_that_redis_lost_whole_is_in_doubt_and_then_a_gap(
    redis: RealRedis, client: Client, log: MessageLog, other: MessageLog
) -> None:
    patient = MessageLog(client, Keys(), grace_s=60.0)
    before = append(log, "a", "b")[-1]
    redis.restart()
    mark = redis.journal_size()
    lost = append(log, "c")[0]
    redis.lose_after(mark)
    entries = patient.read("u:bob", at(lost))
    assert (entries.seq - entries.pending, entries.doubtful) == (2, True)
    assert not other.read("u:bob", at(lost)).recovered
    assert other.read("u:bob", at(before)).recovered  # nobody has said yet that there was more
    other.read("u:bob", at(lost), own=True)
    for position in (before, lost):
        entries = other.read("u:bob", at(position))
        assert (entries.seq - entries.pending, entries.recovered) == (2, False)


def test_a_log_that_began_and_was_lost_is_no_gap_once_its_messages_are_back(
    redis: RealRedis, log: MessageLog, other: MessageLog
) -> None:
    append(log, "of another channel", ch="u:ann")
    mark = redis.journal_size()
    had_one, had_all = append(log, "a", "b")
    redis.lose_after(mark)
    log.carry_over()
    for position in (had_one, had_all):
        entries = other.read("u:bob", at(position))
        assert (ids(entries), entries.recovered) == (["a", "b"], True)


def test_a_client_cannot_raise_the_alarm_for_others(redis: RealRedis, log: MessageLog) -> None:
    first, last = append(log, "a", "b")
    for restarted in (False, True):
        if restarted:
            redis.restart()
        invented = at(last)._replace(seq=1_000_000)
        entries = log.read("u:bob", invented)
        assert (ids(entries), entries.recovered) == ([], False)
        assert log.read("u:bob", at(first)).recovered


def test_a_wiped_redis_is_another_incarnation(redis: RealRedis, log: MessageLog, other: MessageLog) -> None:
    before = append(log, "a", "b")[-1]
    redis.wipe()
    after = append(other, "c")[0]
    assert (after.seq, after.gen > before.gen) == (1, True)
    entries = other.read("u:bob", at(before))
    assert (ids(entries), entries.recovered) == (["c"], False)


def test_while_redis_is_away_everything_says_so_soon(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a")
    redis.kill()
    results = log.append_many([message("b"), message("c")])
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    with pytest.raises(Unavailable, match="redis is unavailable"):
        log.read("u:bob", None)
    with pytest.raises(Unavailable):
        log.heads(["u:bob"])
    with pytest.raises(Unavailable):
        log.unread("bob", ["u:bob"])
    redis.start()
    append(log, "b")
    assert ids(log.read("u:bob", None)) == ["a", "b"]


def test_what_a_frozen_redis_took_after_all_is_not_doubled(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a")
    redis.freeze()
    try:
        assert isinstance(log.append_many([message("b")])[0], Unavailable)
    finally:
        redis.thaw()
    wait_until(lambda: isinstance(log.append_many([message("b")])[0], Appended), 10.0, "redis answers again")
    assert ids(log.read("u:bob", None)) == ["a", "b"]


def test_dropped_connections_cost_nothing(redis: RealRedis, log: MessageLog) -> None:
    append(log, "a")
    redis.drop_clients()
    append(log, "b")
    assert ids(log.read("u:bob", None)) == ["a", "b"]


def test_kill_9_under_load_loses_and_doubles_nothing(redis: RealRedis, client: Client) -> None:
    """Four senders, each in its own process's stead, append until each has its ok; Redis is killed three times."""
    stop = threading.Event()
    done: dict[int, list[str]] = {number: [] for number in range(4)}

    def send(number: int) -> None:
        log = MessageLog(client, Keys(), limits=Limits(cap=100_000))
        while not stop.is_set():
            batch = [message(f"{number}-{len(done[number]) + i}", sender=str(number)) for i in range(10)]
            while any(isinstance(result, Unavailable) for result in log.append_many(batch)):
                stop.wait(0.02)
            done[number] += [one.id for one in batch]

    senders = [threading.Thread(target=send, args=(number,)) for number in done]
    for sender in senders:
        sender.start()
    try:
        for _ in range(3):
            wait_for_more(done)
            redis.restart()
        wait_for_more(done)
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    kept = all_frames(MessageLog(client, Keys()))
    for number, sent in done.items():
        assert [frame["id"] for frame in kept if frame["from"] == str(number)] == sent
