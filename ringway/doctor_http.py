"""What lookups and nodes say to the doctor, over HTTP."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from .core.members import Version
from .diagnosis import Told, View, why_dropped
from .roster import Roster
from .trust import system_trust
from .zookeeper.probe import ANY_CERTIFICATE

OF_LIMIT = 0.9  # the answer that there is none is to come within the limit


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer that can be used, and why. `nobody`: nothing listens there."""

    text: str
    nobody: bool = False


def ask_lookup(url: str, limit_s: float) -> Told:
    """A lookup's ring, that of each of its processes that has another, and the nodes it knows of."""
    part, answer = f"lookup {url}", _get(f"{url}/ring", limit_s)
    if isinstance(answer, Silence):
        return Told((View(part, problem=answer.text),))
    said, nodes, metrics = _get(f"{url}/readyz", limit_s), _get(f"{url}/nodes", limit_s), _metrics(url, limit_s)
    view = _view(part, answer | (said if isinstance(said, dict) else {}))
    publishes = re.search(r'^ringway_lookup_publisher\{pid="\d+"\} 1\.0$', metrics, re.MULTILINE) is not None
    workers = [worker for worker in _workers(part, metrics) if worker.version != view.version]
    members = _addresses(answer, "members") if view.version else None
    gone = _addresses(nodes, "gone") if isinstance(nodes, dict) else {}
    return Told((replace(view, publishes=publishes), *workers), Roster(members=members, gone=gone))


def ask_node(node: str, http: str, limit_s: float) -> Told:
    """A node's ring. A process that only took its port is no sign of its life."""
    part, answer = f"node {node}", _get(f"{http}/readyz", limit_s, ANY_CERTIFICATE)  # as the lookups ask it
    if isinstance(answer, Silence):
        return Told((View(part, problem=answer.text, sign="" if answer.nobody else "takes connections"),))
    sign = "answers" if answer.get("node") == node else ""
    return Told((replace(_view(part, answer), state=str(answer.get("state", "")), sign=sign),))


def _addresses(answer: Mapping[str, Any], key: str) -> dict[str, str]:
    return {node["id"]: node["http"] for node in answer.get(key, [])}


def _metrics(url: str, limit_s: float) -> str:
    try:
        return httpx.get(f"{url}/metrics", timeout=OF_LIMIT * limit_s, verify=system_trust()).text
    except httpx.HTTPError:
        return ""


def _workers(part: str, text: str) -> list[View]:
    """What the metrics say of each process of a lookup: whoever answered `/ring` is only one of them."""
    found = {name: dict(re.findall(rf'^ringway_lookup_ring_{name}{{pid="(\d+)"}} (\S+)$', text, re.MULTILINE))
             for name in ("gen", "epoch", "checksum")}  # fmt: skip
    return [
        View(f"{part}, process {pid}", Version(int(float(gen)), int(float(found["epoch"][pid]))),
             f"{int(float(found['checksum'][pid])):013x}")
        for pid, gen in found["gen"].items() if float(gen)
    ]  # fmt: skip


def _view(part: str, answer: Mapping[str, Any]) -> View:
    dropped = ", ".join(f"{cause} {count}" for cause, count in sorted(answer.get("documents_dropped", {}).items()))
    if "epoch" not in answer:
        problem = why_dropped(dropped) if dropped else "has no ring yet"
        return View(part, problem=f"has no ring: {problem}" if dropped else str(answer.get("message") or problem))
    view = View(part, Version(answer["gen"], answer["epoch"]), str(answer["checksum"]), dropped=dropped)
    problems = ["cannot reach ZooKeeper: its ring is stale"] if answer.get("stale") else []
    problems += ["cannot reach Redis"] if answer.get("redis") is False else []
    problems += [answer["zookeeper_problem"]] if answer.get("zookeeper_problem") else []
    return replace(view, problem="; ".join(problems))


def _get(url: str, limit_s: float, trust: ssl.SSLContext | None = None) -> dict[str, Any] | Silence:
    """The JSON of an answer, whatever its status."""
    try:
        return dict(httpx.get(url, timeout=OF_LIMIT * limit_s, verify=trust or system_trust()).json())
    except httpx.HTTPError as error:
        nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return Silence(f"does not answer ({error or type(error).__name__})", nobody)
    except ValueError:
        return Silence("answers something that is not JSON")
