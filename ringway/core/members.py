"""Members of the cluster, and the one signed document that lists them.

The ring is a pure function of this document: who can read it can compute every owner.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from .errors import ConfigError, DocumentCorrupt, DocumentForged, InvalidInput
from .keys import KeyRing
from .uids import validate_node_id

DEFAULT_VNODES = 256
MAX_VNODES = 4096
PROTO = "ringway.v1"
_PURPOSE = "ring document"


class State(StrEnum):
    """What a node says of itself. Only ACTIVE members have points on the ring."""

    JOINING = "joining"
    ACTIVE = "active"
    DRAINING = "draining"


class Version(NamedTuple):
    """(gen, epoch): gen names a publisher's term (unix seconds of its beginning), epoch counts the documents."""

    gen: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.gen}.{self.epoch}"

    @classmethod
    def parse(cls, text: str, field: str = "version") -> Version:
        """Read `gen.epoch`. Raises InvalidInput."""
        gen, dot, epoch = text.partition(".")
        if dot and all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (gen, epoch)):
            return cls(int(gen), int(epoch))
        raise InvalidInput(field, text, "must be gen.epoch, two whole numbers", "send back what a route answer said")


def validate_vnodes(value: object, name: str = "vnodes") -> int:
    """The number of virtual nodes, which is the member's weight. Raises ConfigError outside 1..4096."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_VNODES:
        return value
    raise ConfigError(name, value, f"must be a whole number from 1 to {MAX_VNODES}")


@dataclass(frozen=True, slots=True)
class Member:
    """One node in the ring document.

    `url` is where clients connect (ws:// or wss://, up to the path); `http` is where the cluster's own parts reach
    the node (http:// or https://); `vnodes` is its weight.
    """

    id: str
    url: str
    http: str
    vnodes: int = DEFAULT_VNODES
    state: State = State.ACTIVE

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "url": self.url, "http": self.http, "vnodes": self.vnodes, "state": self.state.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Member:
        """Raises KeyError, TypeError, ValueError or ConfigError for anything that is not a member."""
        url, http = data["url"], data["http"]
        if not isinstance(url, str) or not isinstance(http, str):
            raise TypeError("url and http must be text")
        return cls(validate_node_id(data["id"]), url, http, validate_vnodes(data["vnodes"]), State(data["state"]))


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a node writes into its own znode. `boot_id` tells this start of the node from the one before it."""

    id: str
    url: str
    http: str
    vnodes: int
    state: State
    boot_id: str
    proto: str = PROTO

    def to_bytes(self) -> bytes:
        return orjson.dumps({**self.member().as_json(), "boot_id": self.boot_id, "proto": self.proto})

    @classmethod
    def parse(cls, data: bytes) -> NodeRecord:
        """Raises InvalidInput for anything that is not a node record."""
        try:
            raw = orjson.loads(data)
            member = Member.from_json(raw)
            return cls(**{f: getattr(member, f) for f in ("id", "url", "http", "vnodes", "state")},
                       boot_id=str(raw["boot_id"]), proto=str(raw["proto"]))
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise InvalidInput("node record", data[:200], f"unreadable ({error})", "restart that node") from error

    def member(self) -> Member:
        return Member(self.id, self.url, self.http, self.vnodes, self.state)

    def with_state(self, state: State) -> NodeRecord:
        return replace(self, state=state)


@dataclass(frozen=True, slots=True)
class RingDocument:
    """The published document. `checksum` is over alg and members; `mac` signs all of it with key `kid`."""

    gen: int
    epoch: int
    alg: str
    members: tuple[Member, ...]
    checksum: str
    kid: str
    mac: str

    @property
    def version(self) -> Version:
        return Version(self.gen, self.epoch)

    @property
    def active(self) -> tuple[Member, ...]:
        """The members that have points on the ring."""
        return tuple(m for m in self.members if m.state is State.ACTIVE)

    @property
    def weights(self) -> dict[str, int]:
        """Virtual nodes by id of the active members: all the ring is made of."""
        return {m.id: m.vnodes for m in self.active}

    def member(self, node_id: str) -> Member | None:
        return next((m for m in self.members if m.id == node_id), None)

    @classmethod
    def sign(cls, *, version: Version, alg: str, members: Iterable[Member], keys: KeyRing) -> RingDocument:
        """A document for `members` (in any order), signed with the active key."""
        ordered = tuple(sorted(members, key=lambda m: m.id))
        checksum = _checksum(alg, ordered)
        kid = keys.active_kid
        mac = keys.mac(_PURPOSE, kid, _signed_part(version, checksum))
        return cls(version.gen, version.epoch, alg, ordered, checksum, kid, mac)

    def as_json(self) -> dict[str, Any]:
        return {
            "gen": self.gen, "epoch": self.epoch, "alg": self.alg, "members": [m.as_json() for m in self.members],
            "checksum": self.checksum, "kid": self.kid, "mac": self.mac,
        }

    def to_bytes(self) -> bytes:
        return orjson.dumps(self.as_json())

    @classmethod
    def parse(cls, data: bytes, keys: KeyRing) -> RingDocument:
        """Read and verify a document.

        Raises:
            DocumentForged: no signature, one by an unknown key, or one that does not hold.
            DocumentCorrupt: not a document, members twice or out of order, or a checksum that does not hold.
        """
        document = cls._read(data)
        if not document.kid or not document.mac:
            raise DocumentForged("it is not signed")
        if not keys.knows(document.kid):
            raise DocumentForged(f"signed with key {document.kid!r}, which is not in RINGWAY_KEYS")
        expected = keys.mac(_PURPOSE, document.kid, _signed_part(document.version, document.checksum))
        if not hmac.compare_digest(expected.encode(), document.mac.encode()):
            raise DocumentForged(f"the signature by key {document.kid!r} does not hold")
        if document.checksum != _checksum(document.alg, document.members):
            raise DocumentCorrupt("the checksum does not match the members")
        return document

    @classmethod
    def _read(cls, data: bytes) -> RingDocument:
        try:
            raw = orjson.loads(data)
            members = tuple(Member.from_json(m) for m in raw["members"])
            version = Version.parse(f"{raw['gen']}.{raw['epoch']}")
            texts = [str(raw.get(f, "")) for f in ("alg", "checksum", "kid", "mac")]
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError, InvalidInput) as e:
            raise DocumentCorrupt(f"unreadable ({type(e).__name__}: {e})") from e
        ids = [m.id for m in members]
        if ids != sorted(set(ids)):
            raise DocumentCorrupt("members are not in order of their ids, each once")
        return cls(version.gen, version.epoch, texts[0], members, *texts[1:])


def _checksum(alg: str, members: tuple[Member, ...]) -> str:
    canonical = orjson.dumps([alg, [m.as_json() for m in members]], option=orjson.OPT_SORT_KEYS)
    return sha256(canonical).hexdigest()


def _signed_part(version: Version, checksum: str) -> bytes:
    return f"{version}:{checksum}".encode()
