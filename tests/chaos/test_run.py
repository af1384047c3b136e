"""When faults strike, and what a report says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from ringway.chaos.ledger import Ledger
from ringway.chaos.plot import Band, Line, plot, round_up
from ringway.chaos.report import page
from ringway.chaos.run import Fault, FaultFailed, Run, Sample, Strike, plan, shell_fault

FAULTS = [Fault(name, lambda: None) for name in ("a", "b", "c")]


def test_the_same_seed_plans_the_same_times_within_the_run() -> None:
    planned = plan(FAULTS, 100.0, 7)
    assert planned == plan(FAULTS, 100.0, 7)
    assert planned != plan(FAULTS, 100.0, 8)
    assert sorted(fault.name for _, fault in planned) == ["a", "b", "c"]
    times = [at for at, _ in planned]
    assert times == sorted(times)
    assert 10.0 <= times[0] <= times[-1] <= 60.0


def test_a_shell_fault_that_fails_says_what_it_said() -> None:
    shell_fault("fine", "true").inject()
    with pytest.raises(FaultFailed, match="broken: exit code 3: no such unit"):
        shell_fault("broken", "echo no such unit >&2; exit 3").inject()


def run_of(*, lost: bool = False, error: str | None = None) -> Run:
    books = Ledger({"u:bob": ["bob"]})
    books.sent("m1", "u:bob", "<ann>", 0.0)
    books.accepted("m1", 0.1)
    if not lost:
        books.delivered("bob", "u:bob", ("a", 1), "m1", 0.1)
    books.closed("bob", 1.0)
    books.opened("bob", 1.3)
    samples = [Sample(at, 1, 10, 20, 0, 3, 0.01) for at in (0.0, 0.5, 1.0)]
    strikes = [Strike("<kill>", 0.2, 0.4, error)]
    paths = {"bob": ("n1", "n2"), "ann": ("n1",)}
    return Run(1.0, books.verdict(2.0), strikes, samples, settled=not lost, paths=paths, share={"bob": 1})


def test_a_run_says_whether_exactly_the_rings_share_moved() -> None:
    done = run_of()
    assert done.only_the_share_moved
    assert "moved 1, most moves of one 1, the ring's share 1 (moved without it 0, of it not moved 0)" in done.lines()
    assert not done.detours
    done.share = {"ann": 1}
    assert "  not for the ring: n1 > n2 (1)" in done.lines()
    assert not done.only_the_share_moved
    assert "moved 1, most moves of one 1, the ring's share 1 (moved without it 1, of it not moved 1)" in done.lines()
    done.share = None
    assert not done.only_the_share_moved
    assert "moved 1, most moves of one 1, the ring's share is not known" in done.lines()


def test_a_fault_that_failed_makes_the_run_prove_nothing() -> None:
    assert run_of().ok
    assert not run_of(lost=True).ok
    assert not run_of(error="exit code 1").ok


def test_the_report_is_one_page_with_plots_and_the_verdict() -> None:
    text = page(run_of(), "chaos & co")
    assert "Nothing lost, doubled or out of order" in text
    assert "chaos &amp; co" in text
    assert "&lt;kill&gt;" in text
    assert "<kill>" not in text
    assert text.count("<svg") == 4
    assert "http" not in text.replace("http-equiv", ""), "no outside parts"
    assert "The promise was broken" in page(run_of(lost=True), "chaos")


def test_a_plot_is_well_formed_and_its_points_lie_inside() -> None:
    line = Line("x & y", "--a", [(0.0, 0.0), (5.0, 70.0), (10.0, 3.0)])
    svg = ET.fromstring(plot([line], [Band("f", 2, 4)], 10, "n"))
    kinds = Counter(element.tag for element in svg)
    assert (kinds["polyline"], kinds["rect"]) == (1, 1)
    points = [tuple(map(float, point.split(","))) for point in svg.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert all(0 <= x <= 860 and 0 <= y <= 190 for x, y in points)


@pytest.mark.parametrize(("value", "top"), [(0.3, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (30, 50), (2001, 5000)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert round_up(value) == top
