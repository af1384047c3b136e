from __future__ import annotations

import random

import pytest

from ringway.lookup_service.slots import ConnectSlots


def test_the_first_come_at_once_and_the_rest_one_by_one() -> None:
    slots = ConnectSlots(rate=10, burst=2, max_wait_s=10)
    waits = [slots.reserve("n1", f"u{i}", 0.0) for i in range(5)]
    assert waits == pytest.approx([0, 0, 0.1, 0.2, 0.3])


def test_nodes_do_not_wait_for_each_other() -> None:
    slots = ConnectSlots(rate=1, burst=1, max_wait_s=10)
    assert slots.reserve("n1", "a", 0.0) == 0.0
    assert slots.reserve("n2", "b", 0.0) == 0.0


def test_asking_again_gives_the_same_slot_and_takes_nothing() -> None:
    slots = ConnectSlots(rate=10, burst=1, max_wait_s=10)
    slots.reserve("n1", "a", 0.0)
    mine = slots.reserve("n1", "b", 0.0)
    assert [slots.reserve("n1", "b", at) for at in (0.0, 0.05)] == pytest.approx([mine, mine - 0.05])
    assert slots.reserve("n1", "c", 0.0) == pytest.approx(0.2)


def test_another_node_is_another_slot() -> None:
    slots = ConnectSlots(rate=1, burst=1, max_wait_s=10)
    slots.reserve("n1", "a", 0.0)
    slots.reserve("n2", "other", 0.0)
    assert slots.reserve("n2", "a", 0.0) == pytest.approx(1.0)


def test_a_queue_longer_than_the_bound_refuses_and_reserves_nothing() -> None:
    slots = ConnectSlots(rate=10, burst=1, max_wait_s=1)
    waits = [slots.reserve("n1", f"u{i}", 0.0) for i in range(30)]
    assert max(waits) == pytest.approx(1.0)
    refused = [wait for wait in waits if wait < 0]
    assert len(refused) == 19
    assert len(set(refused)) == 1  # the queue did not grow by those who were refused
    assert slots.reserve("n1", "later", 0.5) == pytest.approx(0.6)


def test_no_window_of_any_length_gives_a_node_more_than_its_share() -> None:
    rate, burst = 50.0, 5.0
    slots, chance, now = ConnectSlots(rate, burst, max_wait_s=5), random.Random(7), 0.0
    moments = []
    for i in range(4000):
        now += chance.expovariate(80.0)
        wait = slots.reserve("n1", f"u{i}", now)
        if wait >= 0:
            moments.append(now + wait)
    moments.sort()
    for length in (0.1, 1.0, 3.0):
        late = 0
        for index, start in enumerate(moments):
            late = max(late, index)
            while late < len(moments) and moments[late] < start + length:
                late += 1
            assert late - index <= burst + rate * length + 1


def test_several_processes_share_the_rate() -> None:
    slots = ConnectSlots(rate=10, burst=4, max_wait_s=10)
    slots.share_with(2)
    waits = [slots.reserve("n1", f"u{i}", 0.0) for i in range(4)]
    assert waits == pytest.approx([0, 0, 0.2, 0.4])


def test_the_queue_drains_and_is_forgotten() -> None:
    slots = ConnectSlots(rate=10, burst=1, max_wait_s=10)
    for i in range(11):
        slots.reserve("n1", f"u{i}", 0.0)
    assert slots.waiting(0.0) == pytest.approx({"n1": 1.1})
    assert slots.waiting(2.0) == {}
    slots.keep_only(["n2"])
    assert slots.reserve("n1", "new", 0.0) == 0.0


def test_memory_is_bounded_by_two_generations() -> None:
    slots = ConnectSlots(rate=1000, burst=10, max_wait_s=1, repeat_s=1)
    for i in range(20_000):
        slots.reserve("n1", f"u{i}", i / 1000)
    assert len(slots._given) + len(slots._given_before) < 5000
