"""`python -m bench.soak`: half an hour of random faults on an ensemble, lookups, nodes and Redis, with 500 sessions.

    python -m bench.soak                          30 minutes, a new seed, which is printed
    python -m bench.soak --minutes 5 --seed 7     the same faults in the same order with the same lengths

Within 5 seconds of a fault's healing all parts must go by the same (gen, epoch, checksum), with all that it takes: the
starts of servers and processes, and ZooKeeper's own election. No healthy session may be closed but by a ring that
gained a node or weight, a node's return, a drain of its own node or that node's death; a node that flaps is kept out;
every lookup that was not struck itself must answer each route request; and no lookup may ever answer from an older ring
than before. Exit code 1 where one of these fails.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

import click
import httpx

from ringway.operator import table
from tests.harness.agreement import Prober, Ring, agreed, seen, settled, wait_agreed
from tests.harness.clients import PlainClients
from tests.harness.cluster import NOT_YET, Cluster
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Ensemble

from .results import RESULTS, write_json
from .soak_faults import FLAPS, QUIET_S, Fault, Strike, choose
from .soak_judge import RingLog, let_in, wrong_answers, wrong_closes
from .soak_rig import Rig

NODES, LOOKUPS = 3, 2
AGREE_S = 5.0
WATCH_S = 6.0  # after each healing; joins are published in this time
GIVE_UP_S = 60.0  # waiting for an agreement
HEAL_S = 180.0
SAMPLE_S = 0.1
OPEN_S = 60.0
SETTLE_S = 60.0  # until the ring has exactly the nodes that run, before the next strike
ENV = {"RINGWAY_ZOOKEEPER_TIMEOUT": "6", "RINGWAY_MOVE_DEADLINE": "3"}
FLAP_GUARD = {"RINGWAY_GUARD_FLAP_LEAVES": str(FLAPS), "RINGWAY_GUARD_FLAP_WINDOW": "60",
              "RINGWAY_GUARD_FLAP_QUIET": f"{QUIET_S:g}", "RINGWAY_GUARD_FLAP_MAX": f"{QUIET_S:g}"}  # fmt: skip


@dataclass
class Round:
    """One strike: what it was, and seconds from its healing until all was up and all agreed.

    `apart_s`: the longest disagreement after that.
    """

    faults: str
    struck_s: float
    up_s: float = 0.0
    agreed_s: float = 0.0
    apart_s: float = 0.0
    ring: str = ""
    checksum: str = ""
    violations: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """All that runs. `judged`: until when closes and answers have been looked at."""

    rig: Rig
    crowd: PlainClients
    prober: Prober
    log: RingLog
    judged: float


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Watch:
    """Looks at all parts, again and again from a healing on."""

    def __init__(self, cluster: Cluster, since: float) -> None:
        self._cluster, self._since = cluster, since
        self._apart_since: float | None = None
        self.agreed_s: float | None = None
        self.apart_s = 0.0
        self.ring: Ring | None = None
        self.last = "nothing seen"

    def look(self, *, complete: bool) -> None:
        """Args: complete: all that was struck is up again; before that an agreement is not one of all parts."""
        ring = self._agreed()
        now = time.monotonic()
        if ring is not None and complete:
            self.ring = ring
            self.agreed_s = now - self._since if self.agreed_s is None else self.agreed_s
        if ring is None and self.agreed_s is not None:
            self._apart_since = self._apart_since or now
            self.apart_s = max(self.apart_s, now - self._apart_since)
        else:
            self._apart_since = None

    def enough(self) -> bool:
        waited = time.monotonic() - self._since
        return waited > (GIVE_UP_S if self.agreed_s is None else self.agreed_s + WATCH_S)

    def _agreed(self) -> Ring | None:
        try:
            ring = agreed(self._cluster)
            self.last = str(seen(self._cluster)) if ring is None else ""
        except httpx.HTTPError as error:
            ring, self.last = None, repr(error)
        return ring


def watch(rig: Rig, strike: Strike, record: Round) -> None:
    """From the healing until some seconds after all agree."""
    since = wait_until(lambda: strike.healed_at, HEAL_S, "the fault heals")
    assert since is not None
    looking, up = Watch(rig.cluster, since), None
    while not looking.enough():
        complete = strike.over
        up = up or (time.monotonic() if complete else None)
        looking.look(complete=complete)
        time.sleep(SAMPLE_S)
    strike.end()
    record.up_s = (up or time.monotonic()) - since
    record.agreed_s = GIVE_UP_S if looking.agreed_s is None else looking.agreed_s
    record.apart_s = looking.apart_s
    if looking.ring is not None:
        record.ring, record.checksum = f"{looking.ring[0]}.{looking.ring[1]}", looking.ring[2]
    if (apart_s := max(record.agreed_s, record.apart_s)) > AGREE_S:
        record.violations.append(f"apart for {apart_s:.1f} s: {looking.last}")


def play(stage: Stage, faults: list[Fault], chance: random.Random) -> Round:
    """Strike once and look at what came of it."""
    rig, record = stage.rig, Round(" + ".join(fault.name for fault in faults), 0.0)
    before = wait_until(lambda: settled(rig.cluster), SETTLE_S, "the ring has every node that runs", ignore=NOT_YET)
    since, flapped = time.monotonic(), len(rig.flapped)
    strike = Strike(rig, faults, chance)
    watch(rig, strike, record)
    record.struck_s = (strike.healed_at or since) - since
    if before is not None and record.checksum != before[2] and all(fault.family != "node" for fault in faults):
        record.violations.append("the ring has other members, although no node was struck")
    if len(faults) == 1:  # a publisher that is new does not know yet who flaps
        record.violations += let_in(stage.log, rig.flapped[flapped:])
    record.violations += judge(stage)
    return record


def judge(stage: Stage) -> list[str]:
    """All that went wrong for sessions and routes since the last time."""
    wrong = []
    try:
        stage.crowd.wait_open(OPEN_S)
    except AssertionError:
        wrong.append(f"{len(stage.crowd.not_open())} sessions are not back after {OPEN_S:g} s")
    since, stage.judged = stage.judged, time.monotonic()
    wrong += wrong_closes(stage.rig, stage.log.gains(), stage.crowd, (since, stage.judged))
    return wrong + wrong_answers(stage.rig, stage.prober, since)


@contextmanager
def stage(sessions: int) -> Iterator[Stage]:
    """Everything up, and everybody connected."""
    with (
        Ensemble() as ensemble,
        RealRedis(durable=True, fsync="everysec") as redis,
        ExitStack() as ways,
        Cluster(zookeeper=ensemble.address, redis=redis.url, nodes=0, lookups=0, env=ENV,
                lookup_env=FLAP_GUARD) as cluster,
    ):  # fmt: skip
        rig = Rig(cluster, ensemble, redis, ways)
        for _ in range(LOOKUPS):
            rig.start_lookup()
        for number in range(NODES):
            rig.start_node(f"node-{number + 1}")
        cluster.wait_active(set(cluster.nodes))
        rig.backup = ensemble.back_up()
        ensemble.wait_leader()
        wait_agreed(cluster)
        urls = [lookup.url for lookup in cluster.lookups]
        uids = [f"soak-{number}" for number in range(sessions)]
        with PlainClients(urls, uids) as crowd, Prober(urls, every_s=0.2) as prober, RingLog(cluster) as log:
            yield Stage(rig, crowd, prober, log, time.monotonic())


def run(minutes: float, seed: int, sessions: int) -> list[Round]:
    chance, rounds = random.Random(seed), []
    with stage(sessions) as running:
        until = time.monotonic() + 60 * minutes
        say(f"{sessions} sessions on {NODES} nodes; {minutes:g} minutes of faults, seed {seed}")
        while time.monotonic() < until:
            record = play(running, choose(chance), chance)
            rounds.append(record)
            up = f"up after {record.up_s:.2f} s, agreed after {record.agreed_s:.2f} s"
            say(f"{record.faults:50} lasted {record.struck_s:4.1f} s, {up}, ring {record.ring}")
            for violation in record.violations:
                say(f"  VIOLATION: {violation}")
        codes = dict(running.crowd.codes())
        say(f"{len(rounds)} strikes, {running.prober.answers} routes asked for, closes: {codes}")
        if any(record.violations for record in rounds):
            print(running.rig.cluster.logs(60))
    return rounds


def summary(rounds: list[Round]) -> str:
    """Per kind of fault: how often, and how long it took from the healing."""
    rows = []
    for kind in sorted({record.faults for record in rounds}):
        took = [record.agreed_s for record in rounds if record.faults == kind]
        up = [record.up_s for record in rounds if record.faults == kind]
        wrong = sum(len(record.violations) for record in rounds if record.faults == kind)
        middle = [f"{sum(seconds) / len(seconds):.2f}" for seconds in (up, took)]
        rows.append([kind, len(took), *middle, f"{max(took):.2f}", wrong])
    return table(["fault", "times", "mean s until up", "until all agree", "longest", "violations"], rows)


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
