"""The doctor names who disagrees, and why; it agrees only when all do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ringway import doctor
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Version
from ringway.diagnosis import Finding, View, diagnose, report
from ringway.doctor import Servers, examine

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


def test_who_is_behind_says_so_if_it_has_refused_documents() -> None:
    behind = View("node", ONE, "a", dropped="forged 2")
    (finding,) = diagnose([*views(zookeeper=(TWO, "b")), behind])
    assert "is behind" in finding.text
    assert "it has dropped ring documents (forged 2): does its RINGWAY_KEYS" in finding.text


class Lookup:
    """A lookup of two processes, of which one has an older ring."""

    metrics = "".join(
        f'ringway_lookup_ring_{name}{{pid="{pid}"}} {float(value)}\n'
        for pid, epoch, digits in ((7, 2, "ab" * 6 + "a"), (8, 1, "c" * 13))
        for name, value in (("gen", 1000), ("epoch", epoch), ("checksum", int(digits, 16)))
    )

    def get(self, url: str, **_: Any) -> httpx.Response:
        path = url.rpartition("/")[2]
        ring = {"gen": 1000, "epoch": 2, "checksum": "ab" * 32, "stale": False, "members": []}
        answers = {"ring": ring, "readyz": {"ready": True, "redis": True, "documents_dropped": {}}}
        return httpx.Response(200, json=answers[path]) if path in answers else httpx.Response(200, text=self.metrics)


def test_a_process_of_a_lookup_that_lags_behind_the_others_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", Lookup().get)
    monkeypatch.setattr(doctor, "SETTLE_S", 0.0)
    found = diagnose(examine(Servers(["http://one"], None, None, "x", KeyRing.parse(DEVELOPMENT_KEYS))))
    assert [finding.part for finding in found] == ["lookup http://one, process 8"]
    assert "is behind: ring 1000.1, lookup http://one has 1000.2" in found[0].text


FOREIGN = View("zookeeper", problem="signed with key 'k9'", foreign=THREE)


def test_who_goes_by_a_ring_that_does_not_verify_is_named_and_the_others_are_right() -> None:
    wrong = View("lookup b", THREE, "b", publishes=True)
    found = diagnose([FOREIGN, *views(a=(ONE, "a")), wrong])
    assert [finding.part for finding in found] == ["zookeeper", "lookup b"]
    assert found[1].text.startswith("ALARM: publishes ring 2000.1, which does not verify")
    follower = View("lookup c", THREE, "b")
    found = diagnose([FOREIGN, wrong, follower, View("late", dropped="forged 1")])
    assert found[-1].text.startswith("ALARM: goes by ring 2000.1")


def test_if_all_go_by_it_the_doctors_own_keys_are_the_likelier_mistake() -> None:
    everybody = [FOREIGN, View("lookup", THREE, "b", publishes=True), View("node", THREE, "b")]
    assert diagnose(everybody) == [Finding("zookeeper", "signed with key 'k9'")]
