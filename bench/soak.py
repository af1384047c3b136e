"""`python -m bench.soak`: half an hour of random faults on an ensemble, lookups, nodes and Redis, with 500 sessions.

    python -m bench.soak                          30 minutes, a new seed, which is printed
    python -m bench.soak --minutes 5 --seed 7     the same faults in the same order with the same lengths

After each fault has healed, all parts must go by the same (gen, epoch, checksum) within 5 seconds; no healthy session
may be closed but by a join, a drain or the death of its own node; every lookup that was not struck itself must answer
each route request; and no lookup may ever answer from an older ring than before. Exit code 1 where one of these fails.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import click
import httpx

from ringway.core.close_codes import CloseCode
from ringway.operator import table
from tests.harness.agreement import Prober, agreed, seen, settled
from tests.harness.clients import Closed, Opened, PlainClient, PlainClients
from tests.harness.cluster import NOT_YET, Cluster
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Ensemble

from .results import RESULTS, write_json
from .soak_faults import Fault, Rig, choose, strike

NODES, LOOKUPS = 3, 2
AGREE_S = 5.0
WATCH_S = 6.0  # after each healing; joins are published in this time
SAMPLE_S = 0.2
OPEN_S = 60.0
SETTLE_S = 60.0  # until the ring has exactly the nodes that run, before the next strike
DEATH_GRACE_S = 2.0
ENV = {"RINGWAY_ZOOKEEPER_TIMEOUT": "6", "RINGWAY_MOVE_DEADLINE": "3", "RINGWAY_GUARD_FLAP_LEAVES": "1000"}
EXPECTED = (CloseCode.MOVED, CloseCode.DRAINING)


@dataclass
class Round:
    """One strike: what it was, how long until all agreed, and the longest disagreement after that."""

    faults: str
    struck_s: float
    agreed_s: float = 0.0
    apart_s: float = 0.0
    ring: str = ""
    checksum: str = ""
    violations: list[str] = field(default_factory=list)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def watch(rig: Rig, record: Round) -> None:
    """Look at all parts again and again after the healing."""
    since = time.monotonic()
    first: float | None = None
    apart_since: float | None = None
    last = "nothing seen"
    while (now := time.monotonic()) - since < WATCH_S or (first is None and now - since < 6 * AGREE_S):
        try:
            ring = agreed(rig.cluster)
            last = str(seen(rig.cluster)) if ring is None else ""
        except httpx.HTTPError as error:
            ring, last = None, repr(error)
        now = time.monotonic()
        if ring is not None:
            first = first if first is not None else now - since
            record.ring, record.checksum = f"{ring[0]}.{ring[1]}", ring[2]
        if ring is None and first is not None:
            apart_since = apart_since or now
            record.apart_s = max(record.apart_s, now - apart_since)
        else:
            apart_since = None
        time.sleep(SAMPLE_S)
    record.agreed_s = first if first is not None else time.monotonic() - since
    if record.agreed_s > AGREE_S or record.apart_s > AGREE_S:
        record.violations.append(f"apart for {max(record.agreed_s, record.apart_s):.1f} s: {last}")


def ends(client: PlainClient) -> Iterator[tuple[str, Closed]]:
    """(node, close) for each close of a session that was open; failed attempts to open one do not count."""
    both: list[Opened | Closed] = [*client.opened, *client.closed]
    for before, after in pairwise(sorted(both, key=lambda each: each.at)):
        if isinstance(after, Closed) and isinstance(before, Opened):
            yield before.node, after


def wrong_closes(rig: Rig, crowd: PlainClients, since: float) -> list[str]:
    found: Counter[str] = Counter()
    for client in crowd:
        for node, close in ends(client):
            died = rig.was_hurt(node, close.at, DEATH_GRACE_S)
            if close.at >= since and close.code not in EXPECTED and not died:
                found[f"{node} closed sessions with {close.code} {close.reason[:80]}"] += 1
    return [f"{text} ({count} times)" for text, count in found.items()]


def wrong_answers(rig: Rig, prober: Prober, since: float) -> list[str]:
    found = []
    for url, asked in prober.asked.items():
        failed = [what for at, what in asked.failures if at >= since and not rig.was_hurt(url, at, 5.0)]
        if failed:
            found.append(f"{url} refused {len(failed)} routes: {failed[0]}")
        if asked.backwards:
            found.append(f"{url} went back: {asked.backwards}")
            asked.backwards.clear()
    return found


def play(rig: Rig, crowd: PlainClients, prober: Prober, faults: list[Fault], chance: random.Random) -> Round:
    """Strike once and look at what came of it."""
    record = Round(" + ".join(fault.name for fault in faults), 0.0)
    before = wait_until(lambda: settled(rig.cluster), SETTLE_S, "the ring has every node that runs", ignore=NOT_YET)
    since = time.monotonic()
    strike(rig, faults, chance)
    record.struck_s = time.monotonic() - since
    watch(rig, record)
    if before is not None and record.checksum != before[2] and all(fault.family != "node" for fault in faults):
        record.violations.append("the ring has other members, although no node was struck")
    try:
        crowd.wait_open(OPEN_S)
    except AssertionError:
        record.violations.append(f"{len(crowd.not_open())} sessions are not back after {OPEN_S:g} s")
    record.violations += wrong_closes(rig, crowd, since) + wrong_answers(rig, prober, since)
    return record


@contextmanager
def stage(sessions: int) -> Iterator[tuple[Rig, PlainClients, Prober]]:
    """Everything up, and everybody connected."""
    with (
        Ensemble() as ensemble,
        RealRedis(durable=True, fsync="everysec") as redis,
        Cluster(zookeeper=ensemble.address, redis=redis.url, nodes=0, lookups=0, env=ENV) as cluster,
    ):
        for _ in range(LOOKUPS):  # ports below the ephemeral range, so that a killed lookup gets its own back
            cluster.add_lookup(env={"RINGWAY_PORT": str(pick_port())})
        for _ in range(NODES):
            cluster.add_node(wait=False)
        cluster.wait_active(set(cluster.nodes))
        urls = [lookup.url for lookup in cluster.lookups]
        uids = [f"soak-{number}" for number in range(sessions)]
        with PlainClients(urls, uids) as crowd, Prober(urls, every_s=0.2) as prober:
            yield Rig(cluster, ensemble, redis), crowd, prober


def run(minutes: float, seed: int, sessions: int) -> list[Round]:
    chance, rounds = random.Random(seed), []
    with stage(sessions) as (rig, crowd, prober):
        until = time.monotonic() + 60 * minutes
        say(f"{sessions} sessions on {NODES} nodes; {minutes:g} minutes of faults, seed {seed}")
        while time.monotonic() < until:
            record = play(rig, crowd, prober, choose(chance), chance)
            rounds.append(record)
            figures = f"lasted {record.struck_s:4.1f} s, agreed after {record.agreed_s:.2f} s, ring {record.ring}"
            say(f"{record.faults:50} {figures}")
            for violation in record.violations:
                say(f"  VIOLATION: {violation}")
        closes = sum(crowd.codes().values())
        say(f"{len(rounds)} strikes, {prober.answers} routes asked for, {closes} closes: {dict(crowd.codes())}")
        if any(record.violations for record in rounds):
            rig.cluster.print_logs(60)
    return rounds


def summary(rounds: list[Round]) -> str:
    """Per kind of fault: how often, and how long until all agreed."""
    rows = []
    for kind in sorted({record.faults for record in rounds}):
        took = [record.agreed_s for record in rounds if record.faults == kind]
        wrong = sum(len(record.violations) for record in rounds if record.faults == kind)
        rows.append([kind, len(took), f"{sum(took) / len(took):.2f}", f"{max(took):.2f}", wrong])
    return table(["fault", "times", "mean s to agree", "longest s", "violations"], rows)


def totals(rounds: list[Round]) -> str:
    """One line for all of it."""
    took = sorted(record.agreed_s for record in rounds)
    wrong = sum(len(record.violations) for record in rounds)
    middle, high = took[len(took) // 2], took[int(len(took) * 0.95)]
    agreed_s = f"median {middle:.2f} s, 95 % within {high:.2f} s, longest {took[-1]:.2f} s"
    return f"{len(rounds)} strikes, {wrong} violations; from healing to agreement: {agreed_s}"


@click.command(help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))  # \b: lines stay as they are
@click.option("--minutes", type=click.FloatRange(0.1, 1440), default=30.0)
@click.option("--seed", type=int, default=None, help="Of an earlier run, to see its faults again.")
@click.option("--sessions", type=click.IntRange(1, 5000), default=500)
def main(minutes: float, seed: int | None, sessions: int) -> None:
    seed = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    rounds = run(minutes, seed, sessions)
    text = f"{totals(rounds)}\n\n{summary(rounds)}"
    print(text)
    said = {"minutes": minutes, "seed": seed, "sessions": sessions, "rounds": [asdict(record) for record in rounds]}
    write_json("soak", said)
    (RESULTS / "soak.txt").write_text(f"{minutes:g} minutes, seed {seed}, {sessions} sessions: {text}\n")
    sys.exit(1 if any(record.violations for record in rounds) else 0)


if __name__ == "__main__":
    main()
