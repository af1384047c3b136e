"""ACLs of the development server: the world and digest schemes, as the real server checks them."""

import base64
import hashlib
from collections.abc import Collection, Iterable

from .devserver_protocol import Acl

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
_WORLD = ("world", "anyone")
OPEN = (Acl(READ | WRITE | CREATE | DELETE | ADMIN, *_WORLD),)
READ_ONLY = (Acl(READ, *_WORLD),)

Identity = tuple[str, str]  # scheme, id


def digest_identity(credential: bytes) -> Identity | None:
    """The identity that `user:password` proves, or None when there is no user in it."""
    user, colon, _ = credential.partition(b":")
    if not user or not colon:
        return None
    digest = base64.b64encode(hashlib.sha1(credential).digest()).decode()
    return "digest", f"{user.decode(errors='replace')}:{digest}"


def allows(acl: Iterable[Acl], permission: int, identities: Collection[Identity]) -> bool:
    return any(
        entry.perms & permission and ((entry.scheme, entry.id) == _WORLD or (entry.scheme, entry.id) in identities)
        for entry in acl
    )


def resolve(acl: Iterable[Acl], identities: Collection[Identity]) -> tuple[Acl, ...] | None:
    """What is stored for the ACL that a client asked for; None when the real server answers InvalidACL.

    `auth` stands for whoever the connection has proved to be.
    """
    resolved: list[Acl] = []
    for entry in acl:
        if entry.scheme == "auth":
            resolved += [Acl(entry.perms, *identity) for identity in identities]
        elif (entry.scheme, entry.id) == _WORLD or (entry.scheme == "digest" and entry.id.count(":") == 1):
            resolved.append(entry)
        else:
            return None
    return tuple(dict.fromkeys(resolved)) or None


def redacted(acl: Iterable[Acl]) -> list[Acl]:
    """The ACL as shown to those without ADMIN: digests are hidden (ZOOKEEPER-1392)."""
    return [
        entry._replace(id=entry.id.partition(":")[0] + ":x") if entry.scheme == "digest" else entry for entry in acl
    ]
