"""`python -m bench.chaos`: traffic through faults on a real cluster; nothing may be lost, doubled or out of order.

    python -m bench.chaos                     each fault alone and three at random together, ten seeds; hours
    python -m bench.chaos --only drains       the scenarios whose name contains the text
    python -m bench.chaos --seeds 1,2 --seconds 20

Three nodes, two lookups, ZooKeeper and Redis (append-only file, everysec) as processes of this machine; 2,000 SDK
clients, 1,000 messages/s to users and 200/s to groups. Each run's figures are added to bench/results/chaos.json, so
that a matrix may be made in several sittings; bench/results/chaos.md is written anew from it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from ringway.chaos.ledger import percentile
from ringway.chaos.run import Fault, Run, plan, run
from ringway.chaos.traffic import Load, Traffic
from tests.harness.faults import FAULTS, HARDER, Rig, faults, rig, rolling_restart

RESULTS = Path(__file__).parent / "results"
TOGETHER = "three together"
ROLLING = "rolling restart"
SCENARIOS = (*FAULTS, *HARDER, ROLLING, TOGETHER)
Row = dict[str, Any]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def chosen(scenario: str, at: Rig, seed: int) -> list[Fault]:
    """The faults of a scenario; for three together, the seed's."""
    if scenario == ROLLING:
        return [Fault(ROLLING, partial(rolling_restart, at))]
    names = random.Random(seed).sample(sorted(FAULTS), 3) if scenario == TOGETHER else [scenario]
    return faults(at, names)


async def one(at: Rig, scenario: str, load: Load, seconds: float) -> Run:
    traffic = Traffic([lookup.url for lookup in at.cluster.lookups], load)
    try:
        await traffic.open()
        gc.collect()
        gc.freeze()  # thousands of clients that stay; the collector need not look at them again
        schedule = plan(chosen(scenario, at, load.seed), seconds, load.seed)
        return await run(traffic, schedule, seconds, say=say)
    finally:
        await traffic.close()
        gc.unfreeze()


def row(scenario: str, load: Load, done: Run) -> Row:
    """A run's figures."""
    verdict, hops = done.verdict, Counter(done.hops.values())
    away = sorted(outage.seconds for outage in verdict.outages)
    return {
        "scenario": scenario,
        "faults": [[strike.name, round(strike.start, 1), round(strike.end or 0.0, 1)] for strike in done.strikes],
        "seed": load.seed, "sessions": load.sessions, "seconds": round(done.seconds, 1), "sent": verdict.sent,
        "rate": round(verdict.sent / done.seconds), "delivered": verdict.delivered, "lost": len(verdict.lost),
        "doubled": len(verdict.doubled), "disorder": len(verdict.disorder), "strange": verdict.strange,
        "gaps": verdict.gaps, "refused": sum(verdict.refused.values()), "unanswered": verdict.unanswered,
        "settled": done.settled, "failed_faults": [strike.error for strike in done.failed_faults],
        "causes": dict(done.causes), "outages": len(away),
        "outage_p50_s": round(percentile(away, 50), 3) if away else 0.0,
        "outage_p99_s": round(percentile(away, 99), 3) if away else 0.0,
        "moved": sum(n for hop, n in hops.items() if hop), "most_moves": max(hops, default=0),
        "p50_ms": round(verdict.latency_s.get("p50", 0) * 1000, 1),
        "p99_ms": round(verdict.latency_s.get("p99", 0) * 1000, 1),
        "max_ms": round(verdict.latency_s.get("max", 0) * 1000), "ok": done.ok, "load": round(os.getloadavg()[0], 1),
    }


def keep(new: Row) -> None:
    """Add a row to the results; one of the same scenario, seed and size is replaced."""
    path = RESULTS / "chaos.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    same = ("scenario", "seed", "sessions")
    rows = [old for old in rows if any(old[key] != new[key] for key in same)] + [new]
    rows.sort(key=lambda each: (SCENARIOS.index(each["scenario"]), -each["sessions"], each["seed"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "chaos.md").write_text(document(rows))


COLUMNS = ("scenario", "runs", "sessions", "messages", "deliveries", "lost", "doubled", "out of order", "gaps",
           "outages", "outage p50 / p99 (worst run)", "moved / most moves", "delivery p50 / p99 / max (worst run)")


def document(rows: Sequence[Row]) -> str:
    """The results as Markdown."""
    head = ["# Traffic through faults", "", (__doc__ or "").partition("\n\n")[0].partition(": ")[2], "",
            "Repeat with `make chaos`. All processes share two cores, with other work on them (`load` in",
            "[chaos.json](chaos.json)): the promises are exact, the times are upper bounds.", "",
            f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return "\n".join([*head, *_lines(rows), ""])


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for scenario in SCENARIOS:
        for sessions in sorted({row["sessions"] for row in rows if row["scenario"] == scenario}, reverse=True):
            group = [row for row in rows if (row["scenario"], row["sessions"]) == (scenario, sessions)]
            total = {key: sum(row[key] for row in group) for key in
                     ("sent", "delivered", "lost", "doubled", "disorder", "gaps", "outages")}
            worst = {key: max(row[key] for row in group) for key in
                     ("outage_p50_s", "outage_p99_s", "moved", "most_moves", "p50_ms", "p99_ms", "max_ms")}
            cells = [scenario, len(group), sessions, *list(total.values())[:6], total["outages"],
                     f"{worst['outage_p50_s']:.2f} / {worst['outage_p99_s']:.2f} s" if total["outages"] else "-",
                     f"{worst['moved']} / {worst['most_moves']}",
                     f"{worst['p50_ms']:.0f} / {worst['p99_ms']:.0f} / {worst['max_ms']:.0f} ms"]
            yield f"| {' | '.join(map(str, cells))} |"


@click.command(help=__doc__)
@click.option("--only", default="", help="Scenarios whose name contains this text.")
@click.option("--seeds", default="1,2,3,4,5,6,7,8,9,10", help="Seeds, separated by commas.")
@click.option("--seconds", default=30.0, help="How long each run talks, at least.")
@click.option("--sessions", default=2000)
@click.option("--user-rate", default=1000.0)
@click.option("--group-rate", default=200.0)
@click.option("--write/--no-write", default=True, help="Add to bench/results.")
def main(
    only: str, seeds: str, seconds: float, sessions: int, user_rate: float, group_rate: float, write: bool
) -> None:
    logging.basicConfig(level=logging.ERROR)
    base = Load(sessions, user_rate, group_rate)
    bad = 0
    for seed in map(int, seeds.split(",")):
        for scenario in (name for name in SCENARIOS if only in name):
            load = replace(base, seed=seed)
            say(f"{scenario}, seed {seed}")
            with rig(seed) as at:
                done = asyncio.run(one(at, scenario, load, seconds))
                if not done.ok:
                    bad += 1
                    say(f"logs are kept in {at.cluster.folder}")
            for line in done.lines():
                say(line)
            if write:
                keep(row(scenario, load, done))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
