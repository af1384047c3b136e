"""Traffic with books through each fault alone, on real servers: nothing lost, doubled, out of order or unreported.

The faults happen one after the other to one cluster, each to clients of its own, all in one fixture: processes that
replace killed ones live on to the end of the module. `python -m bench.chaos` is the same at full size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ringway.chaos.cast import Load
from ringway.chaos.ledger import percentile
from ringway.chaos.run import Run, run
from ringway.chaos.traffic import Traffic
from tests.harness.faults import FAULTS, HARDER, Rig, faults, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = Load(sessions=150, user_rate=120, group_rate=30, groups=15, processes=2, permanent=0.5)
BEFORE_S, AFTER_S = 0.5, 1.0  # traffic before and after the fault
ALL = [*FAULTS, *HARDER]
QUIET = ["node joins", "node drains"]
KILL = "node killed"
SESSION_S = 10.0  # of ZooKeeper, by default


async def through(at: Rig, name: str, seed: int) -> Run:
    lookups = [lookup.url for lookup in at.cluster.lookups if lookup.alive]
    traffic = Traffic(lookups, replace(LOAD, seed=seed))
    try:
        await traffic.open()
        (fault,) = faults(at, [name])
        return await run(traffic, [(BEFORE_S, fault)], BEFORE_S + AFTER_S, settle_s=30.0)
    finally:
        await traffic.close()


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, Run]]:
    with rig() as at:
        yield {name: asyncio.run(through(at, name, seed)) for seed, name in enumerate(ALL, 1)}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_lost_doubled_or_out_of_order(cases: dict[str, Run], name: str) -> None:
    done = cases[name]
    assert not done.failed_faults
    assert done.ok, "\n".join(done.verdict.lines())
    assert done.settled
    assert name in HARDER or not done.verdict.gaps
    assert done.unread == 0, "acks that did not get there"
    assert done.verdict.sent > LOAD.user_rate


@pytest.mark.parametrize("name", QUIET)
def test_a_join_and_a_drain_move_exactly_the_rings_share_once_and_cut_nobody(
    cases: dict[str, Run], name: str
) -> None:
    done = cases[name]
    assert done.share is not None
    assert 0.1 < len(done.share) / LOAD.sessions < 0.6
    assert {uid: hops for uid, hops in done.hops.items() if hops} == dict.fromkeys(done.share, 1)
    assert not done.verdict.outages, done.causes


@pytest.mark.parametrize("name", sorted(set(ALL) - {KILL}))
def test_only_a_killed_node_cuts_its_clients_off(cases: dict[str, Run], name: str) -> None:
    assert not cases[name].verdict.outages, cases[name].causes


def test_clients_of_a_killed_node_are_back_before_its_session_ends(cases: dict[str, Run]) -> None:
    """They do not wait for ZooKeeper. How fast they are is a figure (`python -m bench.chaos`), not an assertion."""
    away = [outage.seconds for outage in cases[KILL].verdict.outages]
    print(f"back after a median of {percentile(away, 50):.2f} s, longest {max(away):.2f} s")
    assert max(away) < SESSION_S
