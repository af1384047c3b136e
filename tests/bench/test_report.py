"""The tables that a run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.aims import AIMS
from bench.report import Report, aims, markdown, ratio, table
from bench.slow_readers import SIZE, echoed
from bench.subjects import CEILING, FANOUTS, GROWTH, SUBJECTS, Row, echo_name

ECHO = SUBJECTS[0]
MEMORY = next(subject for subject in SUBJECTS if subject.kind == "idle")
ROW: Row = {"per_s": 1000.0, "server_us": 10.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu": 0.5, "load": 1.0, "rounds": 5}
ECHOED = b"\x81\x7e" + SIZE.to_bytes(2, "big") + b"x" * SIZE


def test_every_aim_can_be_measured_by_a_subject() -> None:
    everyone = ("ringway", CEILING, "flask-sock", "picows+uvloop", "node ws", "bare loop of sends",
                "the same Flask app on pywsgi")
    full: Row = {**ROW, "p99_alone_ms": 2.0, "kib_18000": 2.0, "core_percent": 1.0}
    results = {subject.name: dict.fromkeys(everyone, full) for subject in SUBJECTS}
    assert [aim.what for aim in AIMS if aim.measure(results) is None] == []


def test_an_aim_that_was_not_measured_is_not_said_to_be_missed() -> None:
    assert not any("missed" in line for line in aims({}))


def test_a_missed_aim_says_so() -> None:
    results = {ECHO.name: {"ringway": ROW, "flask-sock": ROW}}
    assert [line for line in aims(results) if "flask-sock" in line] == [
        "| echo, 1 in flight, over flask-sock | at least 6 | 1 | **missed** |"]


def test_what_no_server_can_reach_is_said_beside_the_aims() -> None:
    results = {ECHO.name: {"ringway": ROW, CEILING: {**ROW, "per_s": 5000.0}, "flask-sock": ROW}}
    assert "is 5 x flask-sock" in "\n".join(aims(results))


def test_a_peer_without_figures_is_in_the_table_with_its_reason() -> None:
    text = table(ECHO, {"ringway": ROW, "node ws": {"why": "no node here"}})
    assert "| node ws | not measured: no node here | | | | | | | | |" in text


def test_a_ratio_above_one_is_better_whichever_way_the_figure_counts() -> None:
    assert ratio(ECHO, ROW, {"per_s": 500.0}) == "2.00"
    assert ratio(MEMORY, {"kib_18000": 2.0}, {"kib_18000": 8.0}) == "4.00"
    assert ratio(MEMORY, {"kib_18000": 2.0}, {"kib_6000": 8.0}) == ""


def test_a_peer_that_did_not_get_so_far_is_the_last_one() -> None:
    rows = {"flask-sock": {"kib_1000": 3.0, "load": 1.0, "rounds": 5},
            "ringway": {"kib_1000": 2.0, "kib_18000": 2.0, "load": 1.0, "rounds": 5}}
    assert [line for line in table(MEMORY, rows) if line.startswith("| flask")] == [
        "| flask-sock | 3 |  |  | 1.0 | 5 |"]


def test_a_report_is_whole_after_each_subject_and_keeps_what_was_measured_before(tmp_path: Path) -> None:
    for n in GROWTH:
        subject = next(s for s in SUBJECTS if s.name == echo_name(n, 1, 64))
        Report(fresh=n == GROWTH[0], folder=tmp_path).add(subject, {"ringway": ROW})
    text = (tmp_path / "README.md").read_text()
    assert "| ringway | 10.00 | 10.00 | 10.00 | 1.00 |" in text
    assert (tmp_path / "growth.svg").exists()
    (tmp_path / "of-an-older-run.svg").touch()
    Report(fresh=True, folder=tmp_path).add(ECHO, {"ringway": ROW})
    assert "connections grow" not in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "of-an-older-run.svg").exists()


def test_the_generator_is_shown_not_to_be_the_limit() -> None:
    text = markdown({ECHO.name: {"ringway": ROW, CEILING: {**ROW, "per_s": 3000.0, "cpu": 0.9}}}, {})
    assert f"| {ECHO.name} | 3,000 | 90% | 1,000 | 50% | 1% |" in text


def test_the_table_of_fan_outs_has_a_column_for_each_size() -> None:
    results = {f"fan-out to {n}": {"ringway": ROW} for n in FANOUTS}
    assert "| ringway | 1,000 | 1,000 | 1,000 | 1,000 | 1,000 |" in markdown(results, {})


@pytest.mark.parametrize(
    ("stream", "verdict"),
    [
        (b"", (0, False)),
        (ECHOED * 2 + b"\x88\x02\x10\x05", (4101, False)),
        (ECHOED + ECHOED[:-1], (0, False)),
        (ECHOED[:500] + b"\x88\x02\x10\x05" + b"x" * SIZE, (0, True)),
        (b"\x81\x05hello" + ECHOED, (0, False)),
        (ECHOED + b"rubbish", (0, True)),
    ],
    ids=["nothing", "closed", "cut by a reset", "torn", "after a greeting", "no frame"],
)
def test_what_a_slow_reader_finds(stream: bytes, verdict: tuple[int, bool]) -> None:
    assert echoed(stream) == verdict
