"""A router on a ring of plain members, with everything around it made of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ringway.core.hashing import hashing
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, RingDocument, State, Version
from ringway.lookup_service.auth import Authenticator, anyone
from ringway.lookup_service.rings import Rings
from ringway.lookup_service.routing import Router
from ringway.lookup_service.slots import ConnectSlots

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
HASHING = hashing("xxh64-v1")
GEN = 1_700_000_000


def member(node: str, state: State = State.ACTIVE, vnodes: int = 256, http: str | None = None) -> Member:
    return Member(node, f"ws://{node}.test/ws", http or f"http://{node}.test", vnodes, state)


def document(epoch: int, members: Iterable[Member | str], gen: int = GEN) -> RingDocument:
    full = [member(m) if isinstance(m, str) else m for m in members]
    return RingDocument.sign(version=Version(gen, epoch), alg=HASHING.name, members=full, keys=KEYS)


def rings(*names: Member | str, epoch: int = 1) -> Rings:
    made = Rings(HASHING)
    if names:
        made.apply(document(epoch, names))
    return made


class FakeSoftDown:
    """Marks a node where `dead` says so; notes what it was asked. For those in `probed` there is no verdict yet."""

    def __init__(self, dead: Iterable[str] = (), probed: Iterable[str] = ()) -> None:
        self.dead, self.probed = set(dead), set(probed)
        self.down: frozenset[str] = frozenset()
        self.suspected: list[str] = []
        self.away: list[tuple[str, str]] = []

    def suspect(self, node: Member) -> bool:
        self.suspected.append(node.id)
        if node.id in self.dead:
            self.down |= {node.id}
        return node.id in self.down or node.id in self.probed

    def placed(self, uid: str, node: str) -> None:
        self.away.append((uid, node))


class Fresh:
    """ZooKeeper is there, or away for `away` seconds."""

    def __init__(self, away: float | None = None) -> None:
        self.away = away

    def stale_for(self) -> float | None:
        return self.away


class Counted:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def routed(self, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append(outcome)


def router(made: Rings, *, authenticate: Authenticator = anyone, slots: ConnectSlots | None = None,
           **parts: Any) -> Router:
    defaults: dict[str, Any] = {
        "softdown": FakeSoftDown(), "freshness": Fresh(), "refresh": lambda: None, "observer": Counted(),
        "clock": lambda: 1_800_000_000.0, "monotonic": lambda: 0.0,
    }  # fmt: skip
    return Router(made, authenticate, KEYS, slots or ConnectSlots(1e6, 1e6, 10.0), **(defaults | parts))


def environ(query: str = "", **headers: str) -> dict[str, Any]:
    """A WSGI environ for `GET /route?<query>`."""
    given = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return {"PATH_INFO": "/route", "REQUEST_METHOD": "GET", "QUERY_STRING": query, "REMOTE_ADDR": "10.0.0.1", **given}
