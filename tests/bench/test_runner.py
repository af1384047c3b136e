"""The bench's own promises: it ends in time, a peer's failure is a row that says why, and figures are medians."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from bench.peers import ROOT, Running
from bench.runner import Plan, Runner, round_s, summary, takes_part, why
from bench.subjects import Row, Subject

ECHO = Subject("echo", "echo", lambda _server, _seconds: {"per_s": 1.0}, seconds=0.01, takes_s=0.0)


@dataclass
class FakePeer:
    """A peer whose server is this process."""

    name: str = "fake"
    subjects: frozenset[str] = frozenset({"echo"})
    broken: str = ""
    starts: int = 0
    running_now: set[str] = field(default_factory=set)

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        self.starts += 1
        if self.broken:
            raise RuntimeError(self.broken)
        self.running_now.add(kind)
        try:
            yield Running(os.getpid(), 1)
        finally:
            self.running_now.discard(kind)


def measuring(run: Callable[[Running, float], Row], **more: object) -> Subject:
    return replace(ECHO, run=run, **more)  # type: ignore[arg-type]


def run(subject: Subject, *peers: FakePeer, rounds: int = 3, limit_s: float = 60.0) -> dict[str, Row]:
    work = [(subject, [peer.name for peer in peers], rounds)]
    with Runner(Plan(limit_s, work, None), lambda _text: None) as runner:
        return runner.measure(subject, peers, rounds)


def test_a_row_is_the_median_of_the_rounds_and_says_how_many_there_were() -> None:
    figures = iter([5.0, 1.0, 3.0])
    rows = run(measuring(lambda _server, _seconds: {"per_s": next(figures), "rounds": 99}), FakePeer())
    assert (rows["fake"]["per_s"], rows["fake"]["rounds"]) == (3.0, 3)


def test_a_server_is_started_once_for_all_rounds_and_stopped_at_the_end() -> None:
    peer = FakePeer()
    run(ECHO, peer)
    assert (peer.starts, peer.running_now) == (1, set())


def test_a_cold_subject_starts_it_each_time() -> None:
    peer = FakePeer()
    run(replace(ECHO, cold=True), peer)
    assert (peer.starts, peer.running_now) == (3, set())


@pytest.mark.parametrize("together", [False, True])
def test_a_peer_that_does_not_start_is_a_row_that_says_why(together: bool) -> None:
    rows = run(replace(ECHO, together=together), FakePeer("bad", broken="no such module"), FakePeer())
    assert rows["bad"] == {"why": "no such module"}
    assert rows["fake"]["rounds"] == 3


def test_a_peer_that_fails_twice_is_left_alone() -> None:
    peer = FakePeer(broken="no")
    run(ECHO, peer, rounds=5)
    assert peer.starts == 2


def test_a_server_that_failed_is_started_again() -> None:
    peer, outcomes = FakePeer(), iter([True, False, False])

    def once(_server: Running, _seconds: float) -> Row:
        if next(outcomes):
            raise RuntimeError("closed")
        return {"per_s": 7.0}

    rows = run(measuring(once), peer)
    assert rows["fake"] | {"load": 0} == {
        "per_s": 7.0, "load": 0, "failures": 1, "why_failed": "closed", "rounds": 2}
    assert peer.starts == 2


def test_a_peer_that_is_not_of_the_few_takes_part_in_the_first_rounds_only() -> None:
    subject = replace(ECHO, others=1)
    rows = run(subject, FakePeer("ringway"), FakePeer("another"))
    assert (rows["ringway"]["rounds"], rows["another"]["rounds"]) == (3, 1)
    assert takes_part(subject, "another", 1)
    assert round_s(subject, ["ringway", "another"], 2, 1.0) == 1.25


def test_rounds_are_left_out_where_time_is_short_but_never_the_first() -> None:
    assert run(ECHO, FakePeer(), limit_s=0.0)["fake"]["rounds"] == 1


def test_a_plan_keeps_time_for_three_rounds_of_what_comes_later() -> None:
    later = replace(ECHO, name="later", seconds=8.0)
    work = [(ECHO, ["ringway"], 5), (later, ["ringway"], 5)]
    tight, loose = Plan(29.0, work, None), Plan(32.0, work, None)
    tight.begin(ECHO)
    loose.begin(ECHO)
    assert not tight.has_time(ECHO)
    assert loose.has_time(ECHO)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("first line\nsecond"), "first line"),
        (RuntimeError(f"no {ROOT}/var/bench/wsload"), "no var/bench/wsload"),
        (KeyError(), "KeyError"),
        (RuntimeError("n1 exited with code 1; its last lines:\n  a\n  b"), "n1 exited with code 1; its last line: b"),
        (subprocess.TimeoutExpired([f"{ROOT}/wsload"], 60.0), "no answer within 60 s"),
    ],
)
def test_a_reason_is_one_line_without_paths_of_this_machine(error: Exception, words: str) -> None:
    assert why(error) == words


def test_nothing_measured_says_so() -> None:
    assert summary([], []) == {"why": "not measured"}
