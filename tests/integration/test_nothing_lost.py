"""Traffic with books through each fault alone, on real servers: nothing lost, doubled, out of order or unreported.

The faults happen one after the other to one cluster, each to clients of its own, all in one fixture: processes that
replace killed ones live on to the end of the module. `python -m bench.chaos` is the same at full size.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from ringway.chaos.ledger import percentile
from ringway.chaos.run import Run, run
from ringway.chaos.traffic import Load, Traffic
from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import Ring
from tests.harness.faults import FAULTS, HARDER, Rig, faults, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = Load(sessions=150, user_rate=120, group_rate=30, groups=15)
BEFORE_S, AFTER_S = 0.5, 1.0  # traffic before and after the fault
MOVES_S = 20.0
ALL = [*FAULTS, *HARDER]
QUIET = ["node joins", "node drains"]
KILL = "node killed"
SESSION_S = 10.0  # of ZooKeeper, by default


@dataclass(frozen=True)
class Case:
    """A run, and the weights of the ring before and after it."""

    run: Run
    before: dict[str, int]
    after: dict[str, int]


def weights(at: Rig) -> dict[str, int]:
    return {m["id"]: m["vnodes"] for m in at.cluster.ring()["members"] if m["state"] == "active"}


def moving(before: dict[str, int], after: dict[str, int], uids: Iterable[str]) -> set[str]:
    """The users whose owner changed, each asked on two rings built from nothing."""
    old, new = (Ring.build(each, hashing(XXH64)) for each in (before, after))
    return {uid for uid in uids if old.owner(uid) != new.owner(uid)}


async def moves_made(traffic: Traffic, due: set[str]) -> None:
    """Until all who are to move have moved, or for long enough to see that they do not."""
    deadline = time.monotonic() + MOVES_S
    while time.monotonic() < deadline and any(not hops for uid, hops in traffic.hops().items() if uid in due):
        await asyncio.sleep(0.05)


async def through(at: Rig, name: str, seed: int) -> Case:
    traffic = Traffic([lookup.url for lookup in at.cluster.lookups if lookup.alive], Load(
        LOAD.sessions, LOAD.user_rate, LOAD.group_rate, LOAD.groups, seed=seed))
    before = weights(at)
    try:
        await traffic.open()
        (fault,) = faults(at, [name])
        done = await run(traffic, [(BEFORE_S, fault)], BEFORE_S + AFTER_S, settle_s=30.0)
        if name in QUIET:  # moves are paced: they may outlast the traffic
            await moves_made(traffic, moving(before, weights(at), traffic.uids))
            done.hops, done.verdict = traffic.hops(), traffic.verdict()
    finally:
        await traffic.close()
    return Case(done, before, weights(at))


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, Case]]:
    with rig() as at:
        yield {name: asyncio.run(through(at, name, seed)) for seed, name in enumerate(ALL, 1)}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_lost_doubled_or_out_of_order(cases: dict[str, Case], name: str) -> None:
    done = cases[name].run
    assert not done.failed_faults
    assert done.ok, "\n".join(done.verdict.lines())
    assert done.settled
    assert name in HARDER or not done.verdict.gaps
    assert done.verdict.sent > LOAD.user_rate


@pytest.mark.parametrize("name", QUIET)
def test_a_join_and_a_drain_move_exactly_the_rings_share_once_and_cut_nobody(
    cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    moved = moving(case.before, case.after, case.run.hops)
    assert 0.1 < len(moved) / LOAD.sessions < 0.6
    assert {uid: hops for uid, hops in case.run.hops.items() if hops} == dict.fromkeys(moved, 1)
    assert not case.run.verdict.outages, case.run.causes


@pytest.mark.parametrize("name", sorted(set(ALL) - {KILL}))
def test_only_a_killed_node_cuts_its_clients_off(cases: dict[str, Case], name: str) -> None:
    assert not cases[name].run.verdict.outages, cases[name].run.causes


def test_clients_of_a_killed_node_are_back_before_its_session_ends(cases: dict[str, Case]) -> None:
    """They do not wait for ZooKeeper. How fast they are is a figure (`python -m bench.chaos`), not an assertion."""
    away = [outage.seconds for outage in cases[KILL].run.verdict.outages]
    print(f"back after a median of {percentile(away, 50):.2f} s, longest {max(away):.2f} s")
    assert max(away) < SESSION_S
