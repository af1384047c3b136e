"""`GET /route`: the one function that answers it, for Flask and, as WSGI middleware, before Flask.

The normal path does no I/O: the ring is in memory, the ticket is an HMAC, the slot a few additions. Only a client
that knows a newer ring (`min_epoch`) or could not reach its node (`avoid`) makes it ask others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ringway.core.errors import InvalidInput
from ringway.core.keys import KeyRing
from ringway.core.members import Member, Version
from ringway.core.tickets import DEFAULT_TTL_S, issue
from ringway.core.uids import validate_uid

from . import query
from .answers import Answer, Refusal, ok, refusal
from .auth import Authenticator, AuthRequest, Identity, allow
from .explain import explain
from .placement import Placement, place
from .rings import Current, Rings
from .slots import ConnectSlots

MAX_AVOID = 8
# What nearly every client asks: a valid uid in characters that nobody escapes (RFC 3986, 2.3). It only
# ever says yes; all others are `parse_any`'s to judge.
PLAIN = re.compile(r"uid=([A-Za-z0-9._~-]{1,256})")
NOBODY_S = 2.0
CROWD_S = 4.0  # who finds the queue full comes back spread over seconds, or the queue would be full again at once


class RouteQuery(NamedTuple):
    """A route request, checked."""

    uid: str
    min_version: Version | None = None
    avoid: tuple[str, ...] = ()
    explain: bool = False


class Suspicions(Protocol):
    """What routing needs of softdown: which nodes are marked, and what to do when a client could not reach one."""

    @property
    def down(self) -> frozenset[str]: ...
    def suspect(self, member: Member) -> bool: ...
    def placed(self, uid: str, node: str) -> None: ...


class Freshness(Protocol):
    """Whether the authority (ZooKeeper) is away, and since when, in seconds."""

    def stale_for(self) -> float | None: ...


class Observer(Protocol):
    def routed(self, outcome: str, seconds: float) -> None: ...


@dataclass(frozen=True)
class Router:
    """Answers route requests. All parts are thread-safe, so one Router serves every thread."""

    rings: Rings
    authenticate: Authenticator
    keys: KeyRing
    slots: ConnectSlots
    softdown: Suspicions
    freshness: Freshness
    refresh: Callable[[], None]
    observer: Observer
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    ttl_s: int = DEFAULT_TTL_S

    def answer(self, environ: Mapping[str, Any]) -> Answer:
        """The answer to `GET /route` for a WSGI environ; never raises."""
        started = time.perf_counter()
        try:
            asked = parse(environ.get("QUERY_STRING", ""))
            identity = self.authenticate(AuthRequest(asked.uid, environ))
            body = self.route(asked, identity)
            answer = ok(body, body["reason"])
        except Exception as error:  # noqa: BLE001 - the boundary: `refusal` logs what is not foreseen
            answer = refusal(error)
        self.observer.routed(answer.outcome, time.perf_counter() - started)
        return answer

    def route(self, asked: RouteQuery, identity: Identity) -> dict[str, Any]:
        """One route, as JSON data.

        Raises:
            Forbidden, NoActiveMember, Refusal (replica_behind, too_many_connects, no_node_answers)
        """
        allow(identity, asked.uid)
        current = self._at_least(asked.min_version) if asked.min_version else self.rings.current()
        placed = place(current, asked.uid, self.softdown.down)
        if placed.member.id in asked.avoid:
            current, placed = self._avoiding(asked)
        return self._reply(asked, identity, current, placed)

    def _at_least(self, wanted: Version) -> Current:
        """A ring not older than the one the client has seen: an older answer could send it back to where it was sent
        away from."""
        current = self.rings.latest
        if current is None or current.view.version < wanted:
            self.refresh()
            current = self.rings.current()
            if current.view.version < wanted:
                had = current.view.version
                message = f"this replica has ring {had}, you have seen {wanted}; ask again, or another replica"
                raise Refusal(503, "replica_behind", message, retry_after=1.0)
        return self.rings.current()

    def _avoiding(self, asked: RouteQuery) -> tuple[Current, Placement]:
        """The client could not reach where it would be sent: perhaps the ring knows better by now, else the node is
        probed. One that answers the probe is the answer again: the owner is alive, the client's way to it is not.

        Where all are marked, only who has tried the owner in vain is turned away; for others it is still the answer.

        Raises:
            Refusal: 503 `no_node_answers`.
        """
        self.refresh()
        current = self.rings.current()
        suspected: frozenset[str] = frozenset()
        placed = place(current, asked.uid, self.softdown.down)
        for _ in asked.avoid:
            if placed.member.id not in asked.avoid or not self.softdown.suspect(placed.member):
                break
            suspected |= {placed.member.id}
            placed = place(current, asked.uid, self.softdown.down | suspected)
        node = placed.member.id
        if node in asked.avoid and node in self.softdown.down:
            message = f"no node answers this lookup, nor {node} you; ask again after Retry-After, or another replica"
            raise Refusal(503, "no_node_answers", message, retry_after=NOBODY_S)
        return current, placed

    def _reply(self, asked: RouteQuery, identity: Identity, current: Current, placed: Placement) -> dict[str, Any]:
        node, version = placed.member.id, current.version
        wait_s = self._slot(placed, asked.uid)
        ticket = issue(
            self.keys, uid=asked.uid, node=node, version=version, now=self.clock(), ttl_s=self.ttl_s,
            roles=identity.roles, reason=placed.reason,
        )  # fmt: skip
        stale_for = self.freshness.stale_for()
        reply = {
            "uid": asked.uid,
            "node": node,
            "url": current.ticket_urls[node] + ticket,
            "gen": version.gen,
            "epoch": version.epoch,
            "ticket": ticket,
            "expires_in": self.ttl_s,
            "candidates": placed.candidates,
            "connect_after_ms": round(wait_s * 1000),
            "stale": stale_for is not None,
            "reason": placed.reason,
        }
        if stale_for is not None:
            reply["age_s"] = round(stale_for, 1)
        if placed.reason == "softdown":
            self.softdown.placed(asked.uid, node)
        if asked.explain:
            reply["explain"] = explain(current.view, asked.uid, placed, self.softdown.down)
        return reply

    def _slot(self, placed: Placement, uid: str) -> float:
        node = placed.member.id
        wait_s = self.slots.reserve(node, uid, self.monotonic(), placed.crowd_part)
        if wait_s < 0:
            message = f"{node} has as many clients waiting to connect as it takes; ask again after Retry-After"
            raise Refusal(429, "too_many_connects", message, retry_after=CROWD_S - wait_s)
        return wait_s


def parse(query_string: str) -> RouteQuery:
    """Raises InvalidInput (InvalidUid for the uid)."""
    plain = PLAIN.fullmatch(query_string)
    return RouteQuery(plain[1]) if plain else parse_any(query_string)


def parse_any(query_string: str) -> RouteQuery:
    """The same for every query, at five times the cost. Raises InvalidInput."""
    given = query.parameters(query_string)
    uid = validate_uid(given.get("uid"))
    version = query.text("min_epoch", given.get("min_epoch"))
    avoid = tuple(filter(None, query.text("avoid", given.get("avoid")).split(",")))
    if len(avoid) > MAX_AVOID:
        rule = f"names more than {MAX_AVOID} nodes"
        raise InvalidInput("avoid", ",".join(avoid), rule, "name the ones that failed last")
    wanted = Version.parse(version, "min_epoch") if version else None
    return RouteQuery(uid, wanted, avoid, query.text("explain", given.get("explain")) in ("1", "true"))
