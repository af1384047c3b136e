"""The fuzz run's own parts: what it makes of a program that ends well, badly, too late, or cannot run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.fuzz import Outcome, report, run
from bench.fuzz_parts import Part, parts


def part(code: str, limit_s: float = 30.0, missing: str = "") -> Part:
    return Part("a part", (sys.executable, "-c", code), limit_s, r"^\d+ done", {"SAID": "12 done"}, missing)


def test_a_part_that_ends_well_is_ok_and_its_figures_are_kept() -> None:
    outcome = run(part("import os; print('noise'); print(os.environ['SAID'])"))
    assert (outcome.verdict, outcome.figures, outcome.failed) == ("ok", ["12 done"], False)


def test_a_part_that_fails_is_shown_with_its_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(part("import sys; print('the reason', file=sys.stderr); sys.exit(3)"))
    assert (outcome.verdict, outcome.failed) == ("FAILED with 3", True)
    assert "the reason" in capsys.readouterr().out


def test_a_part_that_takes_too_long_is_ended_and_has_failed() -> None:
    assert run(part("import time; time.sleep(60)", limit_s=0.5)).failed


def test_a_part_that_cannot_run_here_says_why_and_fails_nothing() -> None:
    outcome = run(part("", missing="no such program"))
    assert (outcome.verdict, outcome.failed) == ("not here: no such program", False)


def test_a_share_is_a_share_of_each_number() -> None:
    whole, tenth = parts(1.0, 7, Path("corpus")), parts(0.1, 7, Path("corpus"))
    assert [each.name for each in whole] == ["generated streams", "rude clients", "atheris", "sanitizers"]
    assert whole[0].env == {"RINGWAY_FUZZ_STREAMS": "1000000", "RINGWAY_FUZZ_SEED": "7"}
    assert whole[1].env == {"RINGWAY_RUDE_CYCLES": "24000"}
    assert tenth[0].env["RINGWAY_FUZZ_STREAMS"] == "100000"
    assert tenth[1].env == {"RINGWAY_RUDE_CYCLES": "2400"}
    assert "-max_total_time=12" in tenth[2].command


def test_the_report_has_the_seed_the_verdicts_and_the_figures() -> None:
    text = report([Outcome("rude clients", figures=["24320 rude cycles"]), Outcome("atheris", "not here: x")], 5)
    assert text.startswith("seed 5\n")
    assert "rude clients: 24320 rude cycles" in text
    assert "not here: x" in text
