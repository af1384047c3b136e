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
    """Add a run to the results. None is ever replaced: a repetition that went better does not undo the first."""
    path = RESULTS / "chaos.json"
    rows = [*(json.loads(path.read_text()) if path.exists() else []), new]
    rows.sort(key=lambda each: (SCENARIOS.index(each["scenario"]), -each["sessions"], each["seed"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "chaos.md").write_text(document(rows))


COLUMNS = ("scenario", "runs", "sessions", "messages", "deliveries", "lost", "doubled", "out of order", "gaps",
           "outages", "runs with outages", "outage p50 / p99, best run; worst run (load)", "moved / most moves",
           "delivery p50 / p99 / max (worst run)")
HEAD = """# Traffic through faults

Nothing may be lost, doubled, out of order, or missing without a word. Repeat with `make chaos`.

Every run that was kept is in, repetitions too. Servers and the one Python process that is all clients share two
cores with other work (`load` of one minute, in [chaos.json](chaos.json)), so times depend on it. What was aimed at:
join, drain and rolling restart without any outage; a killed node's clients back with p50 under 1 s, p99 under 3 s.
"""


def document(rows: Sequence[Row]) -> str:
    """The results as Markdown, with what RESULTS/chaos-notes.md has to say of them."""
    notes = RESULTS / "chaos-notes.md"
    table = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *_lines(rows), ""]
    return "\n".join([HEAD, *table, notes.read_text() if notes.exists() else ""])


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for scenario in SCENARIOS:
        for sessions in sorted({row["sessions"] for row in rows if row["scenario"] == scenario}, reverse=True):
            group = [row for row in rows if (row["scenario"], row["sessions"]) == (scenario, sessions)]
            total = {key: sum(row[key] for row in group) for key in
                     ("sent", "delivered", "lost", "doubled", "disorder", "gaps", "outages")}
            worst = {key: max(row[key] for row in group) for key in
                     ("moved", "most_moves", "p50_ms", "p99_ms", "max_ms")}
            away = sorted((row["outage_p50_s"], row["outage_p99_s"], row["load"]) for row in group if row["outages"])
            spans = "; ".join(f"{p50:.2f} / {p99:.2f} s ({load:.0f})" for p50, p99, load in (away[:1] + away[-1:]))
            cells = [scenario, len(group), sessions, *total.values(), sum(row["outages"] > 0 for row in group),
                     spans or "-",
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
