"""`ringway doctor`: asks each part which ring it sees; `diagnosis` says who disagrees."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from pathlib import Path

from .asking import ask_all
from .core.keys import KeyRing
from .diagnosis import Told, View, diagnose, place
from .doctor_http import ask_lookup, ask_node
from .roster import Roster

LOOK_S = 4.0  # for one look at everything; who is frozen answers never
SERVERS_S = 2.5  # of it, until the nodes that the others named are asked
SETTLE_S = 1.5  # a ring that is just being passed on is no disagreement: who differs must differ for so long


@dataclass(frozen=True, slots=True)
class Servers:
    """Where to look. `zookeeper` and `redis` are None where only the lookups can be asked."""

    lookups: Sequence[str]
    zookeeper: str | None
    redis: str | None
    cluster: str
    keys: KeyRing
    zookeeper_ca: Path | None = None
    zookeeper_cert: Path | None = None
    zookeeper_key: Path | None = None


def examine(servers: Servers) -> list[View]:
    """Ask every part; if any disagrees, ask all again a moment later, and that counts."""
    views = _examine(servers)
    if diagnose(views):
        time.sleep(SETTLE_S)
        views = _examine(servers)
    return views


def _examine(servers: Servers) -> list[View]:
    """The nodes are those that the answers name."""
    deadline = time.monotonic() + LOOK_S
    told = _ask(_questions(servers), SERVERS_S)
    roster = reduce(or_, (one.roster for one in told), Roster())
    nodes = {f"node {name}": partial(ask_node, name, http) for name, http in sorted(roster.addresses().items())}
    answers = _ask(nodes, deadline - time.monotonic())
    return _views(told) + place(_views(answers), roster)


def _views(told: Sequence[Told]) -> list[View]:
    return [view for one in told for view in one.views]


def _ask(questions: Mapping[str, Callable[[float], Told]], limit_s: float) -> list[Told]:
    """What each part told, in their order; each is told the limit, and those that did not keep to it say so."""
    answers = ask_all({part: partial(question, limit_s) for part, question in questions.items()}, limit_s)
    silence = f"does not answer within {limit_s:.1f} s"
    return [answers.get(part) or Told((View(part, problem=silence),)) for part in questions]


def _questions(servers: Servers) -> dict[str, Callable[[float], Told]]:
    questions: dict[str, Callable[[float], Told]] = {}
    if servers.zookeeper or servers.redis:
        from . import doctor_servers  # needs what only servers have installed
    if servers.zookeeper:
        files = (servers.zookeeper_ca, servers.zookeeper_cert, servers.zookeeper_key)
        ask = partial(doctor_servers.ask_zookeeper, servers.zookeeper, servers.cluster, servers.keys, files)
        questions["zookeeper"] = ask
    if servers.redis:
        questions["redis"] = partial(doctor_servers.ask_redis, servers.redis, servers.cluster, servers.keys)
    return questions | {f"lookup {url}": partial(ask_lookup, url) for url in servers.lookups}
