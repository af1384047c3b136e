"""Tickets: the lookup's signed word that this user may open a session on this node, now and once.

JWT, HS256 (RFC 7519), signed with a key of the cluster's key ring and named by `kid`. A node verifies offline.

A cluster's own tickets are signed and read here, without PyJWT: they all have one of a few headers, and a generic
library takes ten times as long for them, which was a fifth of a node's handshake. The short way only ever says yes.
Whatever it does not take (another header, another spelling of the signature, a claim that is missing) is PyJWT's to
judge, so that there is one authority for what is refused, and why.
"""

from __future__ import annotations

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from secrets import token_bytes
from typing import Any, NamedTuple

import jwt
import orjson

from .errors import TicketExpired, TicketForeign, TicketForged, TicketMalformed, TicketReused
from .keys import KeyRing
from .members import Version

DEFAULT_TTL_S = 30
RESUME_TTL_S = 3600
REASONS = frozenset({"route", "softdown", "move", "resume"})
_PURPOSE = "ticket"
_REQUIRED = ["sub", "aud", "gen", "epoch", "exp", "jti", "reason"]
_URLSAFE, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
_CLAIMS = frozenset(_REQUIRED)
# Time is checked here, against the caller's clock, so PyJWT must not look at its own.
_OPTIONS: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False,
                 "require": _REQUIRED}


class Ticket(NamedTuple):
    """What a verified ticket says. `exp` is unix seconds; `version` the ring it was made from."""

    uid: str
    node: str
    version: Version
    exp: float
    jti: str
    roles: tuple[str, ...]
    reason: str


def issue(
    keys: KeyRing,
    *,
    uid: str,
    node: str,
    version: Version,
    now: float,
    ttl_s: float = DEFAULT_TTL_S,
    roles: Iterable[str] = (),
    reason: str = "route",
    jti: str | None = None,
) -> str:
    """A new ticket.

    Args:
        version: the ring the owner was computed from.
        now: unix seconds.
        ttl_s: seconds it stays good.
        reason: route (the owner), softdown (the owner is unreachable), move (a node hands the session over),
            resume (the same node, after a broken connection).
        jti: names this ticket among all of its node, for ever; random unless given.
    """
    kid = keys.active_kid
    claims = {
        "sub": uid, "aud": node, "gen": version.gen, "epoch": version.epoch,
        "exp": int(now + ttl_s), "jti": jti or token_bytes(12).hex(), "roles": tuple(roles), "reason": reason,
    }
    signed = _header(kid) + b"." + _base64url(orjson.dumps(claims))
    return (signed + b"." + _signature(keys, kid, signed)).decode()


@lru_cache(maxsize=64)
def _header(kid: str) -> bytes:
    """The header of every ticket that is signed with this key, as it stands in the ticket."""
    return _base64url(orjson.dumps({"alg": "HS256", "kid": kid, "typ": "JWT"}))


def _signature(keys: KeyRing, kid: str, signed: bytes) -> bytes:
    return _base64url(keys.digest(_PURPOSE, kid, signed))


def _base64url(data: bytes) -> bytes:
    """RFC 7515, section 2: without padding."""
    return b2a_base64(data, newline=False).translate(_URLSAFE, b"=")


def verify(ticket: str, keys: KeyRing, *, node: str, now: float) -> Ticket:
    """Read and check a ticket. Single use is `ReplayGuard`'s part.

    Raises:
        TicketMalformed, TicketForged, TicketExpired, TicketForeign
    """
    claims = _own_claims(ticket, keys)
    read = _ticket(_claims(ticket, keys) if claims is None else claims)
    if read.exp <= now:
        raise TicketExpired(f"ended {now - read.exp:.0f} s ago")
    if read.node != node:
        raise TicketForeign(f"made for node {read.node!r}, this is {node!r}")
    return read


def _own_claims(ticket: str, keys: KeyRing) -> dict[str, Any] | None:
    """The claims of a well-formed ticket that `issue` signed with one of the keys; None for anything else."""
    signed, _, signature = ticket.encode(errors="replace").rpartition(b".")
    header, _, payload = signed.partition(b".")
    for kid in keys.kids:
        if header == _header(kid):
            break
    else:
        return None
    if not ticket.isascii() or not hmac.compare_digest(_signature(keys, kid, signed), signature):
        return None
    if payload.endswith(b"="):
        return None
    padded = payload.translate(_STANDARD) + b"=" * (-len(payload) % 4)
    try:
        claims = orjson.loads(a2b_base64(padded, strict_mode=True))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) and claims.keys() >= _CLAIMS else None


def _claims(ticket: str, keys: KeyRing) -> dict[str, Any]:
    try:
        kid = jwt.get_unverified_header(ticket).get("kid")
        if not isinstance(kid, str) or not keys.knows(kid):
            raise TicketForged(f"signed with key {kid!r}, which is not in RINGWAY_KEYS")
        return jwt.decode(ticket, keys.derive(_PURPOSE, kid), ["HS256"], options=_OPTIONS)
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise TicketForged(str(error)) from None
    except (jwt.InvalidTokenError, UnicodeError) as error:
        raise TicketMalformed(str(error)) from None


def _ticket(claims: dict[str, Any]) -> Ticket:
    try:
        roles = tuple(claims.get("roles", ()))
        version = _version(claims["gen"], claims["epoch"])
        read = Ticket(claims["sub"], claims["aud"], version, float(claims["exp"]), claims["jti"], roles,
                      claims["reason"])
    except (TypeError, ValueError) as error:
        raise TicketMalformed(str(error)) from None
    texts = (read.uid, read.node, read.jti, read.reason, *roles)
    if {str}.issuperset(map(type, texts)) and read.reason in REASONS:
        return read
    raise TicketMalformed("a claim has the wrong type or an unknown reason")


@lru_cache(maxsize=64)
def _version(gen: Any, epoch: Any) -> Version:
    """One object for all tickets of a ring. Raises TypeError, ValueError."""
    return Version(int(gen), int(epoch))


class ReplayGuard:
    """Remembers the tickets used here until they expire, so that each opens one session.

    Two generations of sets bound the work: a generation lasts as long as the longest ticket of its kind, so
    nothing that could still be presented is forgotten, and nothing is scanned.
    """

    def __init__(self, horizon_s: float = RESUME_TTL_S) -> None:
        """Args: horizon_s: seconds, at least the longest life of a ticket."""
        self._horizon = horizon_s
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._turned: float | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def use(self, ticket: Ticket, now: float) -> None:
        """Mark as used. Raises TicketReused the second time."""
        if self._turned is None or now - self._turned >= self._horizon:
            self._old, self._young, self._turned = self._young, set(), now
        if ticket.jti in self._young or ticket.jti in self._old:
            raise TicketReused("it has opened a session before")
        self._young.add(ticket.jti)
