"""Which parts disagree about the ring, from what each of them sees. Pure; `doctor` asks them.

ZooKeeper's document is what counts, for it has the one fenced writer; without it the newest document that anybody has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .core.members import State, Version
from .operator import table
from .roster import Roster


@dataclass(frozen=True, slots=True)
class View:
    """What one part sees. `problem` says why there is no version, or what else is wrong with the part.

    `dropped`: the ring documents that it refused since its start, by cause; that explains why it is behind.
    `foreign`: the version of a document found there that the doctor's keys do not verify.
    `publishes`: whether it is the lookup that publishes the ring. `state`: a node's own word.
    `sign`: of life, in a word; empty where a node gave none.
    """

    part: str
    version: Version | None = None
    checksum: str = ""
    problem: str = ""
    dropped: str = ""
    foreign: Version | None = None
    publishes: bool = False
    state: str = ""
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What one part told: views, its own first, and the nodes that it knows of."""

    views: tuple[View, ...]
    roster: Roster = field(default_factory=Roster)


@dataclass(frozen=True, slots=True)
class Finding:
    """A part that disagrees, and why that matters."""

    part: str
    text: str


def diagnose(views: Sequence[View]) -> list[Finding]:
    """Who disagrees. Pure: the same views give the same findings."""
    strangers = _strangers(views)
    seen = [view for view in views if view.version is not None and view not in strangers]
    findings = [Finding(view.part, view.problem) for view in views if view.problem]
    findings += [Finding(view.part, _stranger(view)) for view in strangers]
    if strangers and not seen:
        return findings
    if not seen:
        return [*findings, Finding("cluster", "nobody has a ring document; is a lookup running, and an active node?")]
    truth = next((view for view in seen if view.part == "zookeeper"), None) or max(seen, key=_age)
    return findings + [finding for view in seen if (finding := _compare(view, truth))]


def place(nodes: Sequence[View], roster: Roster) -> list[View]:
    """The nodes' views, with what is wrong with the place of each. Who is listed nowhere and gives no sign of life is
    left out, who gives one in Redis alone is added."""
    expected = [view for view in nodes if view.sign or roster.listed(_node(view))]
    unknown = [View(f"node {node}", sign="writes to Redis") for node in roster.strangers()]
    return [_placed(view, roster) for view in (*expected, *unknown)]


def _placed(view: View, roster: Roster) -> View:
    missing = roster.missing_from(_node(view))
    registered = _node(view) in (roster.registered or ())
    explained = registered and (view.problem or view.state in (State.DRAINING, State.JOINING))
    if not view.sign or not missing or explained:
        return view
    held = ": it has just come, or a guard keeps it out (the publisher's log says which)" if registered else ""
    problem = f"alive ({view.sign}), but {missing}{held}"
    return replace(view, problem="; ".join(filter(None, (view.problem, problem))))


def _node(view: View) -> str:
    return view.part.removeprefix("node ")


def _strangers(views: Sequence[View]) -> list[View]:
    """Who goes by a ring that does not verify here, if others refuse it or go by another; if nobody does, the doctor
    was more likely called with other keys than the cluster's."""
    foreign = {view.foreign for view in views if view.foreign}
    strangers = [view for view in views if view.version in foreign]
    others = [view for view in views if view not in strangers and (view.version or view.dropped)]
    return strangers if others else []


def _stranger(view: View) -> str:
    role = "publishes" if view.publishes else "goes by"
    return f"ALARM: {role} ring {_dotted(view)}, which does not verify: stop it, or give it the others' RINGWAY_KEYS"


def _age(view: View) -> Version:
    return view.version or Version(0, 0)


def _compare(view: View, truth: View) -> Finding | None:
    if view.version == truth.version:
        if _same(view.checksum, truth.checksum):
            return None
        what = f"ring {_dotted(view)} as {truth.part}, but other members (checksum {view.checksum[:12]})"
        return Finding(view.part, f"ALARM: the same {what}")
    if _age(view) < _age(truth):
        why = f"; {why_dropped(view.dropped)}" if view.dropped else ""
        return Finding(view.part, f"is behind: ring {_dotted(view)}, {truth.part} has {_dotted(truth)}{why}")
    return Finding(view.part, f"is ahead of {truth.part}: ring {_dotted(view)}; was ZooKeeper wiped or restored?")


def _same(one: str, other: str) -> bool:
    """Whether two checksums agree as far as both are known: metrics have only the beginning of it."""
    digits = min(len(one), len(other))
    return one[:digits] == other[:digits]


def why_dropped(dropped: str) -> str:
    return f"it has dropped ring documents ({dropped}): does its RINGWAY_KEYS or RINGWAY_ALG differ from the others'?"


def _dotted(view: View) -> str:
    return "-" if view.version is None else str(view.version)


def report(views: Sequence[View]) -> str:
    """All views as a table, then the findings."""
    rows = [[view.part, _dotted(view), view.checksum[:12] or "-", view.problem or "ok"] for view in views]
    findings = diagnose(views)
    verdict = [f"{finding.part}: {finding.text}" for finding in findings] or ["all parts agree"]
    return "\n".join([table(["part", "ring", "checksum", "says"], rows), "", *verdict])
