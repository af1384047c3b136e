"""Who may write our znodes. A digest protects only what was made with it: what was made before it is closed here.

DELETE is a permission of the parent, so an open `nodes` lets anybody delete every node's entry whatever its own ACL
says; and what stands in an open `ring` is at least a nuisance, though it would not verify.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kazoo.exceptions import BadVersionError, NoAuthError, NoNodeError
from kazoo.security import ACL, make_acl, make_digest_acl

from ringway.core.errors import ConfigError

from .calls import Calls

log = logging.getLogger(__name__)

ROOT = "/ringway"
PERSISTENT = ("nodes", "leader", "ring", "orders")  # and the cluster's own znode above them
WORLD = ("world", "anyone")
VARIABLE = "RINGWAY_ZOOKEEPER_DIGEST"


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
    """Closes what is open, and remembers what it could not.

    Attributes:
        problem: one line; "" where nothing is wrong.
        counts: `closed` znodes; `open`, how often one was found that could not be closed.
    """

    def __init__(self, digest: str, cluster: str) -> None:
        self.problem = ""
        self.counts: Counter[str] = Counter()
        self._user = digest.partition(":")[0]
        mine = cluster_acl(digest)
        home = f"{ROOT}/{cluster}"
        self._wanted = {ROOT: root_acl(digest), home: mine} | {f"{home}/{name}": mine for name in PERSISTENT}

    def check(self, zk: Calls) -> None:
        """Look at all our persistent znodes; those that are missing will be made closed. Raises Unavailable."""
        left = [path for path, acl in self._wanted.items() if not self._is_closed(zk, path, acl)]
        self.counts["open"] += len(left)
        problem = str(self._still_open(left)) if left else ""
        if problem and problem != self.problem:
            log.error("ALARM: %s", problem)
        self.problem = problem

    def _is_closed(self, zk: Calls, path: str, wanted: Sequence[ACL]) -> bool:
        """Whether strangers cannot write this znode, now that we have looked."""
        try:
            found, stat = zk.call(lambda client: client.get_acls_async(path))
            closed = tightened(found, wanted)
            if closed is None:
                return True
            zk.call(lambda client: client.set_acls_async(path, closed, version=stat.aversion))
        except NoNodeError:
            return True
        except BadVersionError:  # another process closed it meanwhile
            return True
        except NoAuthError:
            return False
        self.counts["closed"] += 1
        log.warning("closed %s, which anybody could write, as %s is set now", path, VARIABLE)
        return True

    def _still_open(self, paths: Sequence[str]) -> ConfigError:
        rule = f"cannot close {', '.join(paths)}, which others may write: set the ACLs as an administrator"
        return ConfigError(VARIABLE, f"{self._user}:***", rule)


def _owner(digest: str) -> ACL:
    user, colon, password = digest.partition(":")
    if not (user and colon and password):
        raise ConfigError(VARIABLE, "(set)", "must be user:password")
    made: ACL = make_digest_acl(user, password, all=True)
    return made


def _is_world(entry: Any) -> bool:
    return (entry.id.scheme, entry.id.id) == WORLD
