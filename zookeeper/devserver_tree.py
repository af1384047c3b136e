"""The znodes of the development server and the transactions that change them. Pure: no socket, no clock."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from . import devserver_acl as acls
from .devserver_protocol import (
    Acl,
    Check,
    Code,
    Create,
    Delete,
    EventType,
    SetAcl,
    SetData,
    Write,
)
from .devserver_replies import Stat, string

Event = tuple[EventType, str]

# PathUtils.validatePath: control characters, surrogates and private use are refused, as are empty, . and .. parts.
_BAD_PATH = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]|//|/\\.\\.?(/|$)|[^/]/$|^[^/]|^$")


class Refused(Exception):
    """An operation was answered with an error code; nothing was changed by it."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class MultiRefused(Refused):
    def __init__(self, code: Code, index: int) -> None:
        super().__init__(code)
        self.index = index


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the session that owns what is created, the identities that ACLs are checked against."""

    session_id: int
    identities: Collection[acls.Identity] = ()


@dataclass(slots=True)
class Znode:
    data: bytes | None
    acl: tuple[Acl, ...]
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    owner: int = 0
    version: int = 0
    aversion: int = 0
    created: int = 0  # children ever created: the next sequence number
    removed: int = 0  # children ever deleted; cversion is the sum of both
    children: set[str] = field(default_factory=set)

    def stat(self) -> Stat:
        return Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            ctime=self.ctime,
            mtime=self.mtime,
            version=self.version,
            cversion=self.created + self.removed,
            aversion=self.aversion,
            ephemeral_owner=self.owner,
            data_length=len(self.data or b""),
            num_children=len(self.children),
            pzxid=self.pzxid,
        )


class Tree:
    def __init__(self) -> None:
        self.zxid = 0
        self.nodes: dict[str, Znode] = {}
        self._ephemerals: defaultdict[int, set[str]] = defaultdict(set)
        for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            self.put(path, Znode(b"", acls.READ_ONLY if path.endswith("config") else acls.OPEN, 0, 0, 0, 0, 0))
        self.nodes["/"].children = {"zookeeper"}
        self.nodes["/zookeeper"].children = {"quota", "config"}

    def node(self, path: str) -> Znode:
        if path not in self.nodes:
            raise Refused(Code.NO_NODE)
        return self.nodes[path]

    def readable(self, path: str, actor: Actor, permission: int = acls.READ) -> Znode:
        node = self.node(path)
        if not acls.allows(node.acl, permission, actor.identities):
            raise Refused(Code.NO_AUTH)
        return node

    def put(self, path: str, node: Znode) -> None:
        self.nodes[path] = node
        if node.owner:
            self._ephemerals[node.owner].add(path)

    def remove(self, path: str) -> None:
        node = self.nodes.pop(path)
        if node.owner in self._ephemerals:
            self._ephemerals[node.owner].discard(path)

    def apply(self, writes: Iterable[Write], actor: Actor, now_ms: int) -> tuple[list[bytes], list[Event]]:
        """Applies all the writes as one transaction, or none of them.

        Returns the body of each one's answer and the watch events, in order. Raises MultiRefused.
        """
        transaction = Transaction(self, actor, now_ms)
        results: list[bytes] = []
        for index, write in enumerate(writes):
            try:
                results.append(transaction.write(write))
            except Refused as refused:
                transaction.roll_back()
                raise MultiRefused(refused.code, index) from refused
        self.zxid = transaction.zxid
        return results, transaction.events

    def close_session(self, session_id: int) -> list[Event]:
        """Deletes the session's ephemerals in one transaction, whatever their ACLs say."""
        transaction = Transaction(self, Actor(session_id), 0)
        for path in sorted(self._ephemerals.pop(session_id, ())):
            transaction.unlink(path)
        self.zxid = transaction.zxid
        return transaction.events


class Transaction:
    """The writes of one zxid; keeps what it touched as it was, so that it can be undone without a trace."""

    def __init__(self, tree: Tree, actor: Actor, now_ms: int) -> None:
        self.zxid = tree.zxid + 1
        self.events: list[Event] = []
        self._tree = tree
        self._actor = actor
        self._now_ms = now_ms
        self._before: dict[str, Znode | None] = {}

    def write(self, write: Write) -> bytes:
        match write:
            case Create():
                return self._create(write)
            case Delete():
                return self._delete(write)
            case SetData():
                return self._set_data(write)
            case SetAcl():
                return self._set_acl(write)
            case Check():
                _check_version(self._tree.readable(write.path, self._actor).version, write.version)
                return b""

    def roll_back(self) -> None:
        for path, node in self._before.items():
            if path in self._tree.nodes:
                self._tree.remove(path)
            if node is not None:
                self._tree.put(path, node)

    def unlink(self, path: str) -> None:
        parent_path, name = split(path)
        parent = self._touch(parent_path)
        self._touch(path)
        self._tree.remove(path)
        parent.children.discard(name)
        parent.removed += 1
        parent.pzxid = self.zxid
        self.events += [(EventType.DELETED, path), (EventType.CHILD, parent_path)]

    def _touch(self, path: str) -> Znode:
        node = self._tree.nodes[path]
        if path not in self._before:
            self._before[path] = replace(node, children=set(node.children))
        return node

    def _create(self, write: Create) -> bytes:
        if not write.known_mode:
            raise Refused(Code.UNIMPLEMENTED)
        if "/" not in write.path or "\0" in write.path:
            raise Refused(Code.BAD_ARGUMENTS)
        acl = self._resolve(write.acl)
        parent_path, _ = split(write.path)
        parent = self._tree.readable(parent_path, self._actor, acls.CREATE)
        path = f"{write.path}{parent.created:010d}" if write.sequence else write.path
        validate(path)  # only here: a missing parent is told before a bad name, as by the real server
        if path in self._tree.nodes:
            raise Refused(Code.NODE_EXISTS)
        if parent.owner:
            raise Refused(Code.NO_CHILDREN_FOR_EPHEMERALS)
        node = self._link(path, write.data, acl, self._actor.session_id if write.ephemeral else 0)
        return string(path) + (node.stat().to_bytes() if write.with_stat else b"")

    def _link(self, path: str, data: bytes | None, acl: tuple[Acl, ...], owner: int) -> Znode:
        parent_path, name = split(path)
        parent = self._touch(parent_path)
        node = Znode(data, acl, self.zxid, self.zxid, self.zxid, self._now_ms, self._now_ms, owner)
        self._before.setdefault(path, None)
        self._tree.put(path, node)
        parent.children.add(name)
        parent.created += 1
        parent.pzxid = self.zxid
        self.events += [(EventType.CREATED, path), (EventType.CHILD, parent_path)]
        return node

    def _delete(self, write: Delete) -> bytes:
        if write.path == "/" or not write.path.startswith("/") or write.path.split("/")[1] == "zookeeper":
            raise Refused(Code.BAD_ARGUMENTS)
        parent = self._tree.node(split(write.path)[0])
        node = self._tree.node(write.path)
        if not acls.allows(parent.acl, acls.DELETE, self._actor.identities):
            raise Refused(Code.NO_AUTH)
        _check_version(node.version, write.version)
        if node.children:
            raise Refused(Code.NOT_EMPTY)
        self.unlink(write.path)
        return b""

    def _set_data(self, write: SetData) -> bytes:
        validate(write.path)
        _check_version(self._tree.readable(write.path, self._actor, acls.WRITE).version, write.version)
        node = self._touch(write.path)
        node.data, node.mzxid, node.mtime = write.data, self.zxid, self._now_ms
        node.version += 1
        self.events.append((EventType.CHANGED, write.path))
        return node.stat().to_bytes()

    def _set_acl(self, write: SetAcl) -> bytes:
        validate(write.path)
        acl = self._resolve(write.acl)
        _check_version(self._tree.readable(write.path, self._actor, acls.ADMIN).aversion, write.version)
        node = self._touch(write.path)
        node.acl = acl
        node.aversion += 1
        return node.stat().to_bytes()

    def _resolve(self, acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
        resolved = acls.resolve(acl, self._actor.identities)
        if resolved is None:
            raise Refused(Code.INVALID_ACL)
        return resolved


def split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent or "/", name


def validate(path: str) -> None:
    if _BAD_PATH.search(path):
        raise Refused(Code.BAD_ARGUMENTS)


def _check_version(actual: int, expected: int) -> None:
    if expected not in (-1, actual):
        raise Refused(Code.BAD_VERSION)
