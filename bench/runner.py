"""Running subjects: servers kept warm between rounds, peers in turn, a peer's failure as a row, an end in time."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from .idle import pinged
from .peers import ROOT, Running, Subjected
from .processes import settle
from .subjects import FEW, Row, Subject

LEAST_ROUNDS = 3  # what the plan keeps free for the subjects that are still to come
TRIES = 2  # failures of a peer in a subject, and then it is left alone
BESIDE: Mapping[str, Callable[[Running], AbstractContextManager[None]]] = {"pings": pinged}
Work = tuple[Subject, Sequence[str], int]


class Servers:
    """What is started, by peer and kind."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, str], tuple[ExitStack, Running]] = {}

    def get(self, peer: Subjected, kind: str) -> Running:
        """The server, started for this kind of subject where it is not. Raises whatever kept it from starting."""
        if (peer.name, kind) not in self._started:
            with ExitStack() as stack:
                server = stack.enter_context(peer.running(kind))
                if kind in BESIDE:
                    stack.enter_context(BESIDE[kind](server))
                self._started[peer.name, kind] = (stack.pop_all(), server)
        return self._started[peer.name, kind][1]

    def stop(self, peer: Subjected, kind: str) -> None:
        if started := self._started.pop((peer.name, kind), None):
            started[0].close()

    def stop_all(self) -> None:
        with ExitStack() as stack:
            for started, _ in self._started.values():
                stack.push(started)
            self._started.clear()


class Plan:
    """How long it all takes, and whether there is time for one more round. Seconds of time.monotonic()."""

    def __init__(self, limit_s: float, work: Sequence[Work], seconds: float | None) -> None:
        """`work`: for each subject in turn, its peers' names and how many rounds it has."""
        self._end = time.monotonic() + limit_s
        self._rounds = {subject.name: rounds for subject, _, rounds in work}
        self._first_s = {subject.name: round_s(subject, peers, 1, seconds) for subject, peers, _ in work}
        self._round_s = {subject.name: round_s(subject, peers, rounds, seconds) for subject, peers, rounds in work}
        self._left = [subject.name for subject, _, _ in work]

    def begin(self, subject: Subject) -> None:
        self._left = self._left[self._left.index(subject.name) + 1 :]

    def took(self, subject: Subject, number: int, seconds: float) -> None:
        """Its round of this number took this long: its next ones will too, but for the first one's starts and peers."""
        planned = self._round_s[subject.name]
        slower = seconds / self._first_s[subject.name]
        self._round_s[subject.name] = seconds if number > 1 else planned * min(max(slower, 0.5), 2.0)

    def rest_s(self, subject: Subject, rounds_left: int) -> float:
        """What this subject's rounds and the subjects to come take, if nothing is left out."""
        rest = sum(self._first_s[name] + self._round_s[name] * (self._rounds[name] - 1) for name in self._left)
        return rest + self._round_s[subject.name] * rounds_left

    def has_time(self, subject: Subject) -> bool:
        """Whether one more round still leaves time for the others' first three."""
        kept = sum(self._first_s[name] + self._round_s[name] * (min(LEAST_ROUNDS, self._rounds[name]) - 1)
                   for name in self._left)
        return time.monotonic() + self._round_s[subject.name] + kept <= self._end


def round_s(subject: Subject, peers: Sequence[str], number: int, seconds: float | None) -> float:
    """What a subject's round of this number takes, roughly; the first one with the start of the servers."""
    each = (seconds or subject.seconds) * (1.0 if subject.together else 1.25) + subject.takes_s
    taking_part = [peer for peer in peers if takes_part(subject, peer, number)]
    return each if subject.together else each * len(taking_part)


def takes_part(subject: Subject, peer: str, number: int) -> bool:
    """Whether a peer is measured in the round of this number."""
    return number <= subject.others or peer in FEW


class Runner:
    """Measures subjects one after another; `say` gets a line for each step."""

    def __init__(self, plan: Plan, say: Callable[[str], None], seconds: float | None = None) -> None:
        self._plan, self._say, self._seconds = plan, say, seconds
        self._servers = Servers()
        self._kind = ""

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.stop_all()

    def measure(self, subject: Subject, peers: Sequence[Subjected], rounds: int) -> dict[str, Row]:
        """Medians by peer; `why` instead of figures for one that could not be measured."""
        self._prepare(subject)
        rows: dict[str, list[Row]] = {peer.name: [] for peer in peers}
        whys: dict[str, list[str]] = {peer.name: [] for peer in peers}
        for number in range(1, rounds + 1):
            if number > 1 and not self._plan.has_time(subject):
                self._say(f"{subject.name}: {rounds - number + 1} rounds left out, for want of time")
                break
            minutes = self._plan.rest_s(subject, rounds - number + 1) / 60
            self._say(f"{subject.name}: round {number} of {rounds}; about {minutes:.0f} minutes left in all")
            start = time.monotonic()
            turns = [p for p in peers if takes_part(subject, p.name, number) and len(whys[p.name]) < TRIES]
            self._round(subject, turns, rows, whys)
            self._plan.took(subject, number, time.monotonic() - start)
        return {name: summary(rows[name], whys[name]) for name in rows}

    def _prepare(self, subject: Subject) -> None:
        self._plan.begin(subject)
        if subject.kind != self._kind:
            self._servers.stop_all()
        self._kind = subject.kind

    def _round(
        self, subject: Subject, peers: Sequence[Subjected], rows: dict[str, list[Row]], whys: dict[str, list[str]]
    ) -> None:
        def attempt(peer: Subjected) -> None:
            try:
                rows[peer.name].append(self._once(subject, peer))
            except Exception as error:  # noqa: BLE001 - whatever stops one peer is a row, and never the end of the run
                whys[peer.name].append(why(error))
                self._say(f"  {peer.name}: {whys[peer.name][-1]}")
                self._servers.stop(peer, subject.kind)
                return
            self._say(f"  {peer.name}: {in_words(subject, rows[peer.name][-1])}")

        if subject.together:
            for peer in peers:
                self._started(subject, peer, whys)
            with ThreadPoolExecutor(len(peers) or 1) as pool:
                list(pool.map(attempt, [peer for peer in peers if len(whys[peer.name]) < TRIES]))
        else:
            for peer in peers:
                attempt(peer)

    def _started(self, subject: Subject, peer: Subjected, whys: dict[str, list[str]]) -> None:
        """Start it before all are measured together; where it does not, it is left alone."""
        try:
            self._servers.get(peer, subject.kind)
        except Exception as error:  # noqa: BLE001 - as above
            whys[peer.name] += [why(error)] * TRIES
            self._say(f"  {peer.name}: {whys[peer.name][-1]}")

    def _once(self, subject: Subject, peer: Subjected) -> Row:
        seconds = self._seconds or subject.seconds
        if subject.cold:
            with peer.running(subject.kind) as server:
                return self._measured(subject, server, seconds)
        return self._measured(subject, self._servers.get(peer, subject.kind), seconds)

    def _measured(self, subject: Subject, server: Running, seconds: float) -> Row:
        if not subject.together:
            settle(server.pids)  # it may have just started
        average = os.getloadavg()[0]
        row = subject.run(server, seconds)
        if not subject.together:
            settle(server.pids)
        return {**row, "load": average}


def why(error: Exception) -> str:
    """One line of it for the table, without this machine's paths."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith("its last lines:") else lines[0]
    return text.replace(f"{ROOT}/", "").replace("its last lines: ", "its last line: ")


def summary(rows: Sequence[Row], whys: Sequence[str]) -> dict[str, Any]:
    """The median of each figure over the rounds (of a p99 too: the median of the rounds' p99s), and how many rounds."""
    if not rows:
        return {"why": whys[0] if whys else "not measured"}
    numeric = [key for key, value in rows[0].items() if isinstance(value, (int, float))]
    figures = {key: statistics.median(row[key] for row in rows) for key in numeric}
    spread = {"failures": len(whys), "why_failed": whys[0]} if whys else {}
    return {**figures, **spread, "rounds": len(rows)}


def in_words(subject: Subject, row: Row) -> str:
    also = (f", {name.removesuffix('_ms').removesuffix('_us')} {row[name]:g} {name[-2:]}"
            for name in ("p99_ms", "server_us") if name in row and name != subject.figure)
    shown = subject.figure if subject.figure in row else next(key for key in reversed(row) if key != "load")
    return f"{row[shown]:,g} {shown}{''.join(also)}"
