"""The clients of a node that died, placed by the ring and the slots: nobody waits long, and no node gets the crowd.

With a clock of its own, so that what is shown is what the lookup gives out, not how busy this machine is.
"""

from __future__ import annotations

import itertools
import random

import pytest

from ringway.lookup_service.placement import place
from ringway.lookup_service.slots import ConnectSlots
from tests.harness.crowd import most_of_any_second
from tests.lookup_service.helpers import rings

CLIENTS = 5000
Slot = tuple[float, str]


def come_back(nodes: int, seed: int, *, asked_per_s: float, paced: bool = True) -> list[Slot]:
    """The slots that the clients of `n0` get, who ask within a second of its end or as fast as they are answered."""
    current, chance, now = rings(*(f"n{i}-{seed}" for i in range(nodes))).current(), random.Random(seed), 0.0
    dead = f"n0-{seed}"
    owned = (uid for i in itertools.count() if current.view.ring.owner(uid := f"user-{seed}-{i}") == dead)
    slots, given = ConnectSlots(500.0, 50.0, max_wait_s=10.0), []
    for uid in itertools.islice(owned, CLIENTS):
        now += chance.expovariate(asked_per_s)
        placed = place(current, uid, frozenset({dead}))
        wait = slots.reserve(placed.member.id, uid, now, placed.crowd_part if paced else None)
        assert wait >= 0
        given.append((now + wait, placed.member.id))
    return sorted(given)


@pytest.mark.parametrize("asked_per_s", [400.0, 2_000.0, 5_000.0, 1e6])
@pytest.mark.parametrize("nodes", [3, 4, 6, 11])
def test_in_no_second_a_node_gets_more_than_twice_its_even_share(nodes: int, asked_per_s: float) -> None:
    for seed in range(3):
        given = come_back(nodes, seed, asked_per_s=asked_per_s)
        assert most_of_any_second(given, nodes - 1) <= 2.0, seed


def test_everybody_has_a_slot_within_ten_seconds() -> None:
    for seed in range(5):
        assert come_back(4, seed, asked_per_s=5_000.0)[-1][0] < 10.0


def test_without_the_crowds_pace_the_longest_queue_is_left_alone() -> None:
    """The node with the most of them, for as long as it takes more than the others."""
    worst = [most_of_any_second(come_back(4, seed, asked_per_s=5_000.0, paced=False), 3) for seed in range(5)]
    assert max(worst) > 2.0


def test_pacing_costs_the_crowd_little() -> None:
    for seed in range(5):
        paced, free = (come_back(4, seed, asked_per_s=5_000.0, paced=p)[-1][0] for p in (True, False))
        assert paced < 1.2 * free
