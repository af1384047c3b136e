from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ringway.core.errors import Unavailable
from ringway.core.members import Member, State
from ringway.lookup_service.softdown import SoftDown, SoftDownOptions
from tests.harness.waiting import wait_until
from tests.lookup_service.helpers import member

OPTIONS = SoftDownOptions()
N1, N2 = member("n1"), member("n2")


class FakeMarks:
    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.unavailable = False
        self.ttl_s = 0.0

    def mark(self, node: str, ttl_s: float) -> None:
        self._check()
        self.ttl_s = ttl_s
        self.nodes.add(node)

    def unmark(self, node: str) -> None:
        self._check()
        self.nodes.discard(node)

    def marked(self) -> Iterable[str]:
        self._check()
        return self.nodes

    def away(self, uid: str, node: str) -> None:
        raise AssertionError("not in these tests")

    def _check(self) -> None:
        if self.unavailable:
            raise Unavailable("redis")


class Probe:
    """Answers by what `dead` says; counts, and waits where `gate` is closed."""

    def __init__(self, *dead: str) -> None:
        self.dead = set(dead)
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, node: Member) -> bool:
        self.asked.append(node.id)
        self.gate.wait(5)
        return node.id not in self.dead


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_node_that_fails_two_probes_is_marked_here_and_for_the_others() -> None:
    probe, marks = Probe("n1"), FakeMarks()
    softdown = SoftDown(probe, marks)
    assert softdown.suspect(N1)
    assert (softdown.down, marks.nodes, marks.ttl_s) == (frozenset({"n1"}), {"n1"}, OPTIONS.ttl_s)
    assert probe.asked == ["n1"] * OPTIONS.probes


def test_one_answer_is_enough_to_stay() -> None:
    answers = iter([False, True])
    softdown = SoftDown(lambda node: next(answers), FakeMarks())
    assert not softdown.suspect(N1)
    assert softdown.down == frozenset()


def test_a_node_that_has_just_answered_is_not_asked_again() -> None:
    probe, clock = Probe(), Clock()
    softdown = SoftDown(probe, FakeMarks(), clock=clock)
    for _ in range(50):
        assert not softdown.suspect(N1)
    assert len(probe.asked) == 1
    clock.now += OPTIONS.alive_s
    softdown.suspect(N1)
    assert len(probe.asked) == 2


def test_a_marked_node_is_not_probed_by_requests() -> None:
    probe = Probe("n1")
    softdown = SoftDown(probe, FakeMarks())
    softdown.suspect(N1)
    probe.asked.clear()
    assert softdown.suspect(N1)
    assert probe.asked == []


@pytest.mark.parametrize(("dead", "verdict"), [(["n1"], True), ([], False)])
def test_who_comes_while_a_node_is_probed_is_sent_past_it_without_waiting(dead: list[str], verdict: bool) -> None:
    probe = Probe(*dead)
    probe.gate.clear()
    softdown = SoftDown(probe, FakeMarks())
    verdicts: list[bool] = []
    first = threading.Thread(target=lambda: verdicts.append(softdown.suspect(N1)))
    first.start()
    wait_until(lambda: probe.asked)
    assert [softdown.suspect(N1) for _ in range(100)] == [True] * 100
    assert (softdown.down, verdicts) == (frozenset(), [])  # that is no verdict yet
    probe.gate.set()
    first.join(5)
    assert (verdicts, softdown.suspect(N1)) == ([verdict], verdict)
    assert len(probe.asked) == (OPTIONS.probes if dead else 1)


def test_a_probe_that_breaks_does_not_leave_the_node_suspected_for_ever() -> None:
    def broken(node: Member) -> bool:
        raise RuntimeError("no threads left")

    softdown = SoftDown(broken, FakeMarks())
    for _ in range(2):
        with pytest.raises(RuntimeError):
            softdown.suspect(N1)


def test_nodes_are_probed_independently() -> None:
    probe = Probe("n2")
    softdown = SoftDown(probe, FakeMarks())
    assert not softdown.suspect(N1)
    assert softdown.suspect(N2)


def test_the_others_marks_count_while_they_last() -> None:
    marks = FakeMarks()
    softdown = SoftDown(Probe(), marks)
    marks.nodes = {"n2"}
    softdown.sync([N1, N2])
    assert softdown.down == {"n2"}
    marks.nodes = set()
    softdown.sync([N1, N2])
    assert softdown.down == frozenset()


def test_marks_of_others_that_name_every_node_do_not_count() -> None:
    marks = FakeMarks()
    softdown = SoftDown(Probe("n1"), marks)
    marks.nodes = {"n1", "n2"}  # by a lookup that reaches none
    softdown.sync([N1, N2, member("n3", State.DRAINING)])
    assert softdown.down == frozenset()
    softdown.suspect(N1)
    softdown.sync([N1, N2, member("n3", State.DRAINING)])
    assert softdown.down == {"n1"}


def test_every_node_that_this_lookup_probed_in_vain_is_down() -> None:
    softdown = SoftDown(Probe("n1", "n2"), FakeMarks())
    for node in (N1, N2):
        softdown.suspect(node)
    softdown.sync([N1, N2])
    assert softdown.down == {"n1", "n2"}


def test_a_mark_ends_after_its_time() -> None:
    clock, probe, marks = Clock(), Probe("n1"), FakeMarks()
    softdown = SoftDown(probe, marks, clock=clock)
    softdown.suspect(N1)
    marks.nodes.clear()  # it expires in Redis too
    clock.now += OPTIONS.ttl_s
    softdown.sync([N1, N2])
    assert softdown.down == frozenset()


def test_a_marked_node_that_answers_again_is_unmarked_everywhere() -> None:
    probe, marks = Probe("n1"), FakeMarks()
    softdown = SoftDown(probe, marks)
    softdown.suspect(N1)
    softdown.sync([N1])
    assert softdown.down == {"n1"}
    probe.dead.clear()
    softdown.sync([N1])
    assert (softdown.down, marks.nodes) == (frozenset(), set())


def test_a_marked_node_that_came_up_at_another_address_is_asked_there() -> None:
    here = replace(N1, http="http://127.0.0.1:9")
    softdown = SoftDown(lambda node: node == here, FakeMarks())
    assert softdown.suspect(N1)
    softdown.sync([N1, N2])
    assert softdown.down == {"n1"}
    softdown.sync([here, N2])
    assert softdown.down == frozenset()


def test_a_node_that_left_the_ring_is_forgotten() -> None:
    softdown = SoftDown(Probe("n1"), FakeMarks())
    softdown.suspect(N1)
    softdown.sync([N2])
    assert softdown.down == frozenset()


def test_without_redis_the_own_marks_count() -> None:
    probe, marks = Probe("n1"), FakeMarks()
    softdown = SoftDown(probe, marks)
    marks.nodes = {"n2"}
    softdown.sync([N1, N2])
    marks.unavailable = True
    assert softdown.suspect(N1)
    with pytest.raises(Unavailable):
        softdown.sync([N1, N2])
    assert softdown.down == {"n1"}


def test_verdicts_are_told() -> None:
    softdown = SoftDown(Probe("n1"), FakeMarks())
    heard: list[tuple[str, bool]] = []
    softdown.on_verdict.append(lambda node, alive: heard.append((node, alive)))
    softdown.suspect(N1)
    softdown.suspect(N2)
    assert heard == [("n1", False), ("n2", True)]


def test_how_often_it_is_asked_and_how_long_it_is_passed_over_are_settings() -> None:
    probe, marks, clock = Probe("n1"), FakeMarks(), Clock()
    softdown = SoftDown(probe, marks, SoftDownOptions(ttl_s=30.0, probes=3, alive_s=5.0), clock=clock)
    softdown.suspect(N1)
    assert (probe.asked, marks.ttl_s) == (["n1"] * 3, 30.0)
    clock.now += 29.0
    softdown.sync([N1, N2])
    assert softdown.down == {"n1"}
    softdown.suspect(N2)
    clock.now += 4.0
    probe.dead.add("n2")
    assert not softdown.suspect(N2)
    clock.now += 1.0
    assert softdown.suspect(N2)
