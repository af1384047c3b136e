"""The doctor names who disagrees, and why; it agrees only when all do."""

from __future__ import annotations

import pytest

from ringway.core.members import Version
from ringway.doctor import Finding, View, diagnose, report

ONE, TWO, THREE = Version(1000, 1), Version(1000, 2), Version(2000, 1)


def views(**seen: tuple[Version | None, str]) -> list[View]:
    return [View(part, version, checksum) for part, (version, checksum) in seen.items()]


def test_the_same_ring_everywhere_is_no_finding() -> None:
    assert diagnose(views(zookeeper=(TWO, "a"), redis=(TWO, "a"), lookup=(TWO, "a"), node=(TWO, "a"))) == []


@pytest.mark.parametrize(
    ("behind", "text"),
    [
        (ONE, "is behind: ring 1000.1, zookeeper has 1000.2"),
        (THREE, "is ahead of zookeeper: ring 2000.1; was ZooKeeper wiped or restored?"),
    ],
)
def test_zookeeper_counts_and_others_are_behind_or_ahead(behind: Version, text: str) -> None:
    found = diagnose(views(zookeeper=(TWO, "a"), redis=(TWO, "a"), node=(behind, "b")))
    assert found == [Finding("node", text)]


def test_without_zookeeper_the_newest_ring_counts() -> None:
    assert [finding.part for finding in diagnose(views(a=(ONE, "x"), b=(TWO, "y"), c=(TWO, "y")))] == ["a"]


def test_the_same_number_with_other_members_is_an_alarm() -> None:
    (finding,) = diagnose(views(zookeeper=(TWO, "a" * 64), lookup=(TWO, "b" * 64)))
    assert finding.part == "lookup"
    assert "ALARM" in finding.text
    assert "bbbbbbbbbbbb" in finding.text


def test_a_part_with_a_problem_is_named_even_if_the_rest_agrees() -> None:
    seen = [View("redis", problem="has no ring of cluster 'x'"), *views(zookeeper=(TWO, "a"), node=(TWO, "a"))]
    assert diagnose(seen) == [Finding("redis", "has no ring of cluster 'x'")]


def test_nobody_having_a_ring_is_said() -> None:
    assert "nobody has a ring" in diagnose([View("zookeeper", problem="cannot be reached")])[-1].text


def test_the_report_has_a_line_for_each_part_and_a_verdict() -> None:
    agreed = report(views(zookeeper=(TWO, "a" * 64), node=(TWO, "a" * 64)))
    assert "zookeeper  1000.2  aaaaaaaaaaaa  ok" in agreed
    assert agreed.endswith("all parts agree")
