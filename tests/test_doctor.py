"""The doctor names who disagrees, and why; it agrees only when all do."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from ringway import doctor
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Version
from ringway.diagnosis import Finding, View, diagnose, place, report
from ringway.doctor import Servers, examine
from ringway.roster import Roster

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

    ready: Mapping[str, Any] = {"ready": True, "redis": True, "documents_dropped": {}}

    def get(self, url: str, **_: Any) -> httpx.Response:
        path = url.rpartition("/")[2]
        ring = {"gen": 1000, "epoch": 2, "checksum": "ab" * 32, "stale": False, "members": []}
        answers = {"ring": ring, "readyz": self.ready}
        return httpx.Response(200, json=answers[path]) if path in answers else httpx.Response(200, text=self.metrics)


def test_a_process_of_a_lookup_that_lags_behind_the_others_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", Lookup().get)
    monkeypatch.setattr(doctor, "SETTLE_S", 0.0)
    found = diagnose(examine(Servers(["http://one"], None, None, "x", KeyRing.parse(DEVELOPMENT_KEYS))))
    assert [finding.part for finding in found] == ["lookup http://one, process 8"]
    assert "is behind: ring 1000.1, lookup http://one has 1000.2" in found[0].text


def test_who_may_not_write_in_zookeeper_or_finds_it_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "RINGWAY_ZOOKEEPER_DIGEST='(not set)': may not write under /ringway/x: give the cluster's own digest"
    lookup = Lookup()
    lookup.ready = lookup.ready | {"zookeeper_problem": problem}
    lookup.metrics = ""
    monkeypatch.setattr(httpx, "get", lookup.get)
    monkeypatch.setattr(doctor, "SETTLE_S", 0.0)
    found = diagnose(examine(Servers(["http://one"], None, None, "x", KeyRing.parse(DEVELOPMENT_KEYS))))
    assert [(finding.part, finding.text) for finding in found] == [("lookup http://one", problem)]


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


NOBODY_KNOWS = "but not registered in ZooKeeper and not in the ring"


def roster(**changes: dict[str, str]) -> Roster:
    known = {"registered": {"a": "http://a"}, "members": {"a": "http://a"}, "gone": {}, "speaking": {}} | changes
    return Roster(**known)


def node(name: str, **values: Any) -> View:
    return View(f"node {name}", **({"version": TWO, "state": "active", "sign": "answers"} | values))


def problems(known: Roster, *nodes: View) -> dict[str, str]:
    return {view.part: view.problem for view in place(nodes, known)}


def test_a_node_that_lives_and_is_listed_nowhere_is_named() -> None:
    known = roster(gone={"b": "http://b"})
    assert problems(known, node("a"), node("b")) == {"node a": "", "node b": f"alive (answers), {NOBODY_KNOWS}"}
    stale = node("b", problem="cannot reach ZooKeeper: its ring is stale")
    assert problems(known, stale)["node b"] == f"{stale.problem}; alive (answers), {NOBODY_KNOWS}"


def test_a_node_that_left_and_gives_no_sign_of_life_is_not_missed() -> None:
    known = roster(gone={"b": "http://b"})
    assert problems(known, node("a"), View("node b", problem="does not answer")) == {"node a": ""}
    assert problems(known, View("node a", problem="does not answer")) == {"node a": "does not answer"}


def test_a_node_that_speaks_in_redis_alone_is_named_unless_it_is_leaving() -> None:
    known = roster(speaking={"a": "active", "b": "active", "c": "draining"})
    assert problems(known, node("a")) == {"node a": "", "node b": f"alive (writes to Redis), {NOBODY_KNOWS}"}


def test_a_registered_node_belongs_on_the_ring_unless_it_comes_goes_or_has_its_own_trouble() -> None:
    known = roster(registered={"a": "http://a", "b": "http://b"})
    assert problems(known, node("b"))["node b"].startswith("alive (answers), but not in the ring: it has just come, or")
    for view in (node("b", state="joining"), node("b", state="draining"), node("b", problem="has no ring yet")):
        assert place([view], known) == [view]


def test_what_nobody_could_be_asked_is_no_finding() -> None:
    assert problems(Roster(gone={"b": "http://b"}, members={"a": "http://a"}), node("b"))["node b"].endswith(
        "but not in the ring"
    )
    assert problems(Roster(gone={"b": "http://b"}), node("b")) == {"node b": ""}


def test_an_address_is_the_newest_that_is_known() -> None:
    known = Roster(gone={"a": "old", "b": "old"}) | Roster(members={"a": "ring"}) | Roster(registered={"a": "now"})
    assert known.addresses() == {"a": "now", "b": "old"}


def test_a_lookup_that_never_answers_costs_the_limit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def get(url: str, **values: Any) -> httpx.Response:
        if url.startswith("http://frozen"):
            released.wait(10)
            raise httpx.ReadTimeout("")
        return Lookup().get(url, **values)

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr(doctor, "SETTLE_S", 0.0)
    monkeypatch.setattr(doctor, "SERVERS_S", 0.3)
    since = time.monotonic()
    frozen = [f"http://frozen{number}" for number in range(8)]
    views = examine(Servers([*frozen, "http://one"], None, None, "x", KeyRing.parse(DEVELOPMENT_KEYS)))
    took_s = time.monotonic() - since
    released.set()
    assert [view.problem for view in views][:8] == ["does not answer within 0.3 s"] * 8
    assert took_s < 2.0
