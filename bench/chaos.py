"""`python -m bench.chaos`: traffic through faults on a real cluster; nothing may be lost, doubled or out of order.

    python -m bench.chaos                     each fault alone and three at random together, ten seeds, five rolling
                                              restarts; some 40 minutes on two cores
    python -m bench.chaos --only drains       the scenarios whose name contains the text
    python -m bench.chaos --seeds 1,2 --sessions 500

Three nodes, two lookups, ZooKeeper and Redis (append-only file, everysec) as processes of this machine; 2,000 SDK
clients in four processes, 1,000 messages/s to users and 200/s to groups, half of which have their members for good. The
scenarios of a seed happen one after the other to one cluster and the same clients: between them it goes back to three
nodes, with everybody on the node that owns them, and each has books of its own. After one that did not end well all is
made anew. Each run's figures are added to bench/results/chaos.json; bench/results/chaos.md is written anew from it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from ringway.chaos.cast import Load
from ringway.chaos.ledger import percentile
from ringway.chaos.run import Fault, Run, all_home, plan, run
from ringway.chaos.shares import RingWatch
from ringway.chaos.traffic import Traffic
from tests.harness.faults import FAULTS, HARDER, Rig, faults, rig, rolling_restart

RESULTS = Path(__file__).parent / "results"
TOGETHER = "three together"
ROLLING = "rolling restart"
SCENARIOS = (*FAULTS, *HARDER, ROLLING, TOGETHER)
PERMANENT = 0.5  # part of the groups
ROLLING_SEEDS = 5  # one takes as long as all faults alone
QUIET = ("node joins", "node drains", ROLLING)  # nobody may be without a connection
SHARE = ("node joins", "node drains")  # exactly the ring's share moves, and once
MOST_MOVES = {"node joins": 1, "node drains": 1, ROLLING: 2}
Row = dict[str, Any]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def chosen(scenario: str, at: Rig, seed: int) -> list[Fault]:
    """The faults of a scenario; for three together, the seed's."""
    if scenario == ROLLING:
        return [Fault(ROLLING, partial(rolling_restart, at))]
    names = random.Random(seed).sample(sorted(FAULTS), 3) if scenario == TOGETHER else [scenario]
    return faults(at, names)


def scenarios(only: str, seed: int) -> list[str]:
    return [name for name in SCENARIOS if only in name and (name != ROLLING or seed <= ROLLING_SEEDS)]


class Stage:
    """A cluster and open clients on it, for one scenario after the other."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stack = ExitStack()
        self.rig: Rig | None = None
        self.traffic: Traffic | None = None

    async def run(self, scenario: str, seconds: float) -> Run:
        at, traffic = await self._ready()
        schedule = plan(chosen(scenario, at, self._load.seed), seconds, self._load.seed)
        return await run(traffic, schedule, seconds, say=say)

    async def _ready(self) -> tuple[Rig, Traffic]:
        if self.rig is None or self.traffic is None:
            self.rig = self._stack.enter_context(rig(self._load.seed))
            self.traffic = Traffic([lookup.url for lookup in self.rig.cluster.lookups], self._load)
            await self.traffic.open()
        else:
            await asyncio.to_thread(self.rig.heal)
            await all_home(self.traffic, RingWatch(self.traffic.lookups))
        return self.rig, self.traffic

    async def clear(self) -> None:
        """Take all down; the next scenario has everything anew."""
        traffic, self.traffic, self.rig = self.traffic, None, None
        try:
            if traffic is not None:
                await traffic.close()
        finally:
            self._stack.close()


async def through(load: Load, names: Sequence[str], seconds: float, *, write: bool) -> int:
    """All scenarios of a seed; how many did not keep the promise."""
    stage, bad = Stage(load), 0
    try:
        for name in names:
            say(f"{name}, seed {load.seed}")
            try:
                done = await stage.run(name, seconds)
            except Exception as error:  # noqa: BLE001 - whatever it was, the other runs are still wanted
                bad += 1
                say(f"NO FIGURES for {name}, seed {load.seed}: {type(error).__name__}: {error}")
                await stage.clear()
                continue
            for line in (*done.lines(), *(f"AIM MISSED: {aim}" for aim in missed(name, done))):
                say(line)
            if write:
                keep(row(name, load, done))
            if not (done.ok and done.settled):
                bad += not done.ok
                say(f"logs are kept in {stage.rig.cluster.folder if stage.rig else '-'}")
                await stage.clear()
    finally:
        await stage.clear()
    return bad


def missed(scenario: str, done: Run) -> list[str]:
    """What was aimed at beyond the promise, and not reached."""
    aims = [
        (scenario in QUIET and done.verdict.outages, f"{len(done.verdict.outages)} clients without a connection"),
        (scenario in SHARE and not done.only_the_share_moved, "others moved than the ring's share"),
        (done.most_moves > MOST_MOVES.get(scenario, 99), f"one moved {done.most_moves} times"),
        (done.verdict.gaps, f"{done.verdict.gaps} gaps"),
        (not done.settled, "not settled"),
        (done.unread, f"{done.unread} messages unread though all were had"),
    ]
    return [words for failed, words in aims if failed]


@cache
def commit() -> str:
    """What was measured; `-dirty` where the tree had other changes too."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=RESULTS, capture_output=True, text=True, check=True).stdout.strip()


def row(scenario: str, load: Load, done: Run) -> Row:
    """A run's figures."""
    verdict = done.verdict
    away = sorted(outage.seconds for outage in verdict.outages)
    return {
        "scenario": scenario, "commit": commit(),
        "faults": [[strike.name, round(strike.start, 1), round(strike.end or 0.0, 1)] for strike in done.strikes],
        "seed": load.seed, "sessions": load.sessions, "processes": load.processes, "seconds": round(done.seconds, 1),
        "sent": verdict.sent, "rate": round(verdict.sent / done.seconds), "delivered": verdict.delivered,
        "lost": len(verdict.lost), "doubled": len(verdict.doubled), "disorder": len(verdict.disorder),
        "strange": verdict.strange, "gaps": verdict.gaps, "refused": sum(verdict.refused.values()),
        "unanswered": verdict.unanswered, "settled": done.settled,
        "failed_faults": [strike.error for strike in done.failed_faults],
        "causes": dict(done.causes), "outages": len(away),
        "outage_p50_s": round(percentile(away, 50), 3) if away else 0.0,
        "outage_p99_s": round(percentile(away, 99), 3) if away else 0.0,
        "moved": len(done.moved), "share": None if done.share is None else len(done.share),
        "unread": done.unread, "exact": done.only_the_share_moved, "most_moves": done.most_moves,
        "p50_ms": round(verdict.latency_s.get("p50", 0) * 1000, 1),
        "p99_ms": round(verdict.latency_s.get("p99", 0) * 1000, 1),
        "max_ms": round(verdict.latency_s.get("max", 0) * 1000), "ok": done.ok,
        "missed": missed(scenario, done), "load": round(os.getloadavg()[0], 1),
    }


def keep(new: Row) -> None:
    """Add a run to the results. None is ever replaced: a repetition that went better does not undo the first."""
    path = RESULTS / "chaos.json"
    rows = [*(json.loads(path.read_text()) if path.exists() else []), new]
    rows.sort(key=lambda each: (SCENARIOS.index(each["scenario"]), -each["sessions"], each["seed"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "chaos.md").write_text(document(rows))


COLUMNS = ("scenario", "runs", "sessions", "messages", "deliveries", "lost", "doubled", "out of order", "gaps",
           "outages", "runs with outages", "outage p50 / p99, best run; worst run (load)", "moved", "ring's share",
           "most moves", "delivery p50 / p99 / max (worst run)")
HEAD = """# Traffic through faults

Nothing may be lost, doubled, out of order, or missing without a word. Repeat with `make chaos`.

Every run that was kept is in, repetitions too; [chaos.json](chaos.json) has each with its commit and the load of one
minute. Servers and clients (four processes) share two cores, so times depend on that. `out of order` counts messages
whose place in the log is not after the one before, and messages that a later one of the same sender overtook. `moved`
and `ring's share` are clients in all runs: those that changed their node, and those whose owner the ring changed. What
was aimed at: join, drain and rolling restart without any outage, with exactly the ring's share moved, at most once
(rolling: twice); a killed node's clients back with p50 under 1 s, p99 under 3 s.
"""


def document(rows: Sequence[Row]) -> str:
    """The results as Markdown, with what RESULTS/chaos-notes.md has to say of them."""
    notes = RESULTS / "chaos-notes.md"
    table = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *_lines(rows), ""]
    return "\n".join([HEAD, *table, notes.read_text() if notes.exists() else ""])


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    for scenario in SCENARIOS:
        for sessions in sorted({row["sessions"] for row in rows if row["scenario"] == scenario}, reverse=True):
            yield _line([row for row in rows if (row["scenario"], row["sessions"]) == (scenario, sessions)])


def _line(group: Sequence[Row]) -> str:
    """The runs of one scenario with so many sessions."""
    total = {key: sum(row[key] for row in group) for key in
             ("sent", "delivered", "lost", "doubled", "disorder", "gaps", "outages")}
    worst = {key: max(row[key] for row in group) for key in ("most_moves", "p50_ms", "p99_ms", "max_ms")}
    away = sorted((row["outage_p50_s"], row["outage_p99_s"], row["load"]) for row in group if row["outages"])
    spans = "; ".join(f"{p50:.2f} / {p99:.2f} s ({load:.0f})" for p50, p99, load in (away[:1] + away[-1:]))
    cells = [group[0]["scenario"], len(group), group[0]["sessions"], *total.values(),
             sum(row["outages"] > 0 for row in group), spans or "-",
             sum(row["moved"] for row in group), sum(row["share"] or 0 for row in group), worst["most_moves"],
             f"{worst['p50_ms']:.0f} / {worst['p99_ms']:.0f} / {worst['max_ms']:.0f} ms"]
    return f"| {' | '.join(map(str, cells))} |"


@click.command(help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))  # \b: lines stay as they are
@click.option("--only", default="", help="Scenarios whose name contains this text.")
@click.option("--seeds", default="1,2,3,4,5,6,7,8,9,10", help="Seeds, separated by commas.")
@click.option("--seconds", default=8.0, help="How long each run talks, at least.")
@click.option("--sessions", default=2000)
@click.option("--processes", default=4, help="Processes of clients.")
@click.option("--user-rate", default=1000.0)
@click.option("--group-rate", default=200.0)
@click.option("--write/--no-write", default=True, help="Add to bench/results.")
def main(
    only: str, seeds: str, seconds: float, sessions: int, processes: int, user_rate: float, group_rate: float,
    write: bool,
) -> None:
    logging.basicConfig(level=logging.ERROR)
    commit()
    bad = 0
    for seed in map(int, seeds.split(",")):
        load = Load(sessions, user_rate, group_rate, seed=seed, processes=processes, permanent=PERMANENT)
        bad += asyncio.run(through(load, scenarios(only, seed), seconds, write=write))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
