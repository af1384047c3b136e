"""Who may write our znodes: this process, and nobody without the digest.

A digest protects only what was made with it, so what was made before it is closed here.

DELETE is a permission of the parent, so an open `nodes` lets anybody delete every node's entry whatever its own ACL
says; and what stands in an open `ring` is at least a nuisance, though it would not verify.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.exceptions import BadVersionError, NoAuthError, NoNodeError
from kazoo.security import ACL, make_acl, make_digest_acl

from ringway.core.errors import AccessDenied, ConfigError

from .calls import Calls

log = logging.getLogger(__name__)

ROOT = "/ringway"
PERSISTENT = ("nodes", "leader", "ring", "flapping", "orders")  # and the cluster's own znode above them
WORLD = ("world", "anyone")
VARIABLE = "RINGWAY_ZOOKEEPER_DIGEST"
DENIED_FOR_S = 60.0  # loops try again within ten seconds


def cluster_acl(digest: str) -> list[ACL]:
    """Of a cluster's znodes: its password alone may write, everybody may read.

    Raises:
        ConfigError: `digest` is not user:password.
    """
    return [_owner(digest), make_acl(*WORLD, read=True)]


def root_acl(digest: str) -> list[ACL]:
    """Of the znode above all clusters: anybody may add a cluster, whose own znodes its password alone may write."""
    return [_owner(digest), make_acl(*WORLD, read=True, create=True)]


def tightened(found: Sequence[ACL], wanted: Sequence[ACL]) -> list[ACL] | None:
    """The ACL that a znode should have, where it lets the world do more than is wanted; None where it does not.

    What it says of others stays: an administrator's own entries are none of our business.
    """
    allowed = sum(entry.perms for entry in wanted if _is_world(entry))
    if not any(_is_world(entry) and entry.perms & ~allowed for entry in found):
        return None
    return [*wanted, *(entry for entry in found if not _is_world(entry) and entry not in wanted)]


class Access:
    """Closes what is open, and remembers what it could not, and that this process was denied.

    Attributes:
        counts: `closed` znodes; `open`, how often one was found that could not be closed; `denied` calls.
    """

    def __init__(self, digest: str | None, cluster: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._shown = f"{digest.partition(':')[0]}:***" if digest else "(not set)"
        self._home = f"{ROOT}/{cluster}"
        self._wanted = _wanted(self._home, digest) if digest else {}
        self._open = self._denied = ""
        self._denied_at = -math.inf

    def problem(self, now: float) -> str:
        """What is wrong, in one line; "" where nothing is. Who is denied tries again, so what is past is not told."""
        return self._denied if now - self._denied_at < DENIED_FOR_S else self._open

    def denied(self) -> AccessDenied:
        """The error for a call that was refused. Said once, however often it is tried again."""
        now, said = self._clock(), self._denied
        error = AccessDenied(VARIABLE, self._shown, f"may not write under {self._home}: give the cluster's own digest")
        if now - self._denied_at >= DENIED_FOR_S or not said:
            log.error("ALARM: %s", error)
        self.counts["denied"] += 1
        self._denied, self._denied_at = str(error), now
        return error

    def check(self, zk: Calls) -> None:
        """Look at all our persistent znodes; those that are missing will be made closed. Raises Unavailable."""
        left = [path for path, acl in self._wanted.items() if not self._is_closed(zk, path, acl)]
        self.counts["open"] += len(left)
        problem = str(self._still_open(left)) if left else ""
        if problem and problem != self._open:
            log.error("ALARM: %s", problem)
        self._open = problem

    def _is_closed(self, zk: Calls, path: str, wanted: Sequence[ACL]) -> bool:
        """Whether strangers cannot write this znode, now that we have looked."""
        try:
            found, stat = zk.ask(lambda client: client.get_acls_async(path))
            closed = tightened(found, wanted)
            if closed is None:
                return True
            zk.ask(lambda client: client.set_acls_async(path, closed, version=stat.aversion))
        except (NoNodeError, BadVersionError):  # not there yet, or another process is at it
            return True
        except NoAuthError:
            return False
        self.counts["closed"] += 1
        log.warning("closed %s, which anybody could write, as %s is set now", path, VARIABLE)
        return True

    def _still_open(self, paths: Sequence[str]) -> ConfigError:
        rule = f"cannot close {', '.join(paths)}, which others may write: set the ACLs as an administrator"
        return ConfigError(VARIABLE, self._shown, rule)


def _wanted(home: str, digest: str) -> dict[str, list[ACL]]:
    mine = cluster_acl(digest)
    return {ROOT: root_acl(digest), home: mine} | {f"{home}/{name}": mine for name in PERSISTENT}


def _owner(digest: str) -> ACL:
    user, colon, password = digest.partition(":")
    if not (user and colon and password):
        raise ConfigError(VARIABLE, "(set)", "must be user:password")
    made: ACL = make_digest_acl(user, password, all=True)
    return made


def _is_world(entry: Any) -> bool:
    return (entry.id.scheme, entry.id.id) == WORLD
