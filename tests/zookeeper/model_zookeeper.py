"""ZooKeeper as values, for the publication model: a tree, sessions, transactions, followers that lag, backups.

It has the calls of `ringway.zookeeper.calls.Calls`, so the real publisher, election, view and reader run on it, one
call at a time. Before each call of a session its `before_call` may do anything: there the model puts its faults.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from ringway.core.errors import Unavailable


class Znode(NamedTuple):
    """A znode and what ringway reads of its stat."""

    data: bytes
    version: int
    czxid: int
    ephemeralOwner: int = 0


Tree = dict[str, Znode]


class ModelServer:
    """The tree, all its past states (for followers that lag, and for backups), and the live sessions."""

    def __init__(self, on_ring: Callable[[bytes], None]) -> None:
        self.states: list[Tree] = [{}]
        self.sessions: set[int] = set()
        self._next_session = 1
        self._on_ring = on_ring
        self.zxid = 0

    @property
    def tree(self) -> Tree:
        return self.states[-1]

    def open(self) -> int:
        session = self._next_session
        self._next_session += 1
        self.sessions.add(session)
        return session

    def expire(self, session: int) -> None:
        self.sessions.discard(session)
        self._go_on({path: znode for path, znode in self.tree.items() if znode.ephemeralOwner != session})

    def wipe(self) -> None:
        self.sessions.clear()
        self.states = [{}]

    def restore(self, state: Tree) -> None:
        """Back to an earlier state; sessions of that time are not known, and their ephemerals go."""
        self.sessions.clear()
        self.states = [{path: znode for path, znode in state.items() if not znode.ephemeralOwner}]

    def commit(self, operations: Iterable[tuple[Any, ...]], session: int) -> None:
        """All operations or none, as one state. Raises what kazoo would."""
        tree = dict(self.tree)
        for name, path, *rest in operations:
            getattr(self, f"_{name}")(tree, path, *rest, session)
        self._go_on(tree)

    def _go_on(self, tree: Tree) -> None:
        before, after = self.tree.get("ring"), tree.get("ring")
        self.states.append(tree)
        self.zxid += 1
        if after is not None and after != before and after.data:
            self._on_ring(after.data)

    def _check(self, tree: Tree, path: str, version: int, _session: int) -> None:
        if path not in tree:
            raise NoNodeError
        if version not in (-1, tree[path].version):
            raise BadVersionError

    def _set(self, tree: Tree, path: str, data: bytes, version: int, session: int) -> None:
        self._check(tree, path, version, session)
        tree[path] = tree[path]._replace(data=data, version=tree[path].version + 1)

    def _create(self, tree: Tree, path: str, data: bytes, ephemeral: bool, session: int) -> None:
        if path in tree:
            raise NodeExistsError
        parent = path.rpartition("/")[0]
        if parent and parent not in tree:
            raise NoNodeError
        tree[path] = Znode(data, 0, self.zxid, session if ephemeral else 0)

    def _delete(self, tree: Tree, path: str, version: int, session: int) -> None:
        self._check(tree, path, version, session)
        del tree[path]


class Transaction:
    """Collects what kazoo's TransactionRequest would."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, ...]] = []

    def create(self, path: str, data: bytes, *, ephemeral: bool) -> None:
        self.operations.append(("create", path, data, ephemeral))

    def delete(self, path: str, version: int) -> None:
        self.operations.append(("delete", path, version))

    def check(self, path: str, version: int) -> None:
        self.operations.append(("check", path, version))

    def set_data(self, path: str, data: bytes, version: int) -> None:
        self.operations.append(("set", path, data, version))


class ModelRuntime:
    """Tasks run at once; locks and events do nothing, since the model does one thing at a time."""

    def guard(self, function: Callable[[], object], _log: object, _what: str) -> bool:
        try:
            function()
        except Exception:  # noqa: BLE001 - as the real one; what matters is that the model's own crash passes
            return False
        return True

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def lock(self) -> Any:
        return nullcontext()

    def event(self) -> threading.Event:
        return threading.Event()


class ModelSession:
    """One process's connection. `lag` is by how many states the follower is behind that it reads from."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.runtime = ModelRuntime()
        self.lag = 0
        self.reachable = True
        self.before_call: Callable[[str], object] = lambda _name: None
        self._session: int | None = server.open()
        self._seen = 0

    @property
    def session_id(self) -> int | None:
        return self._session if self.connected else None

    @property
    def connected(self) -> bool:
        return self.reachable and self._session in self.server.sessions

    def reconnect(self) -> None:
        """Come back: with the same session if the server still has it, as kazoo does."""
        self.reachable = True
        if self._session not in self.server.sessions:
            self._session, self._seen = self.server.open(), 0

    def disconnected_for(self, _now: float) -> float:
        return 0.0 if self.connected else 1.0

    def path(self, *parts: str) -> str:
        return "/".join(parts)

    def sync(self, _path: str, _timeout_s: float = 0.0) -> None:
        self._before("sync")
        self.lag = 0

    def get(self, path: str, watch: object = None) -> tuple[bytes, Znode]:
        self._before("get")
        return self._get(self._read(), path)

    def get_many(self, paths: Iterable[str], _watches: Iterable[object]) -> list[tuple[bytes, Znode] | None]:
        self._before("get_many")
        tree = self._read()
        return [self._get(tree, path) if path in tree else None for path in paths]

    def exists(self, path: str, watch: object = None) -> Znode | None:
        self._before("exists")
        return self._read().get(path)

    def children(self, path: str, watch: object = None) -> list[str]:
        self._before("children")
        tree = self._read()
        self._get(tree, path)
        return [each.removeprefix(f"{path}/") for each in tree if each.startswith(f"{path}/")]

    def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False) -> None:
        self._write("create", [("create", path, data, ephemeral)])

    def set(self, path: str, data: bytes, version: int) -> None:
        self._write("set", [("set", path, data, version)])

    def delete(self, path: str, version: int = -1) -> None:
        self._write("delete", [("delete", path, version)])

    def ensure_path(self, path: str) -> None:
        self._before("ensure_path")
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            if (each := "/".join(parts[:depth])) not in self.server.tree:
                self.server.commit([("create", each, b"", False)], 0)
        self._seen = len(self.server.states) - 1

    def commit(self, build: Callable[[Any], object]) -> list[Any]:
        transaction = Transaction()
        build(transaction)
        self._write("commit", transaction.operations)
        return []

    def _write(self, name: str, operations: list[tuple[Any, ...]]) -> None:
        self._before(name)
        assert self._session is not None
        self.server.commit(operations, self._session)
        self._seen = len(self.server.states) - 1
        self.before_call(f"after {name}")
        if not self.connected:  # done, but the answer is lost
            raise Unavailable("ZooKeeper")

    def _before(self, name: str) -> None:
        self.before_call(name)
        if not self.connected:
            raise Unavailable("ZooKeeper")

    def _read(self) -> Tree:
        """A follower's state: behind by `lag`, but never before what this session has seen."""
        self._seen = max(0, min(len(self.server.states) - 1, max(self._seen, len(self.server.states) - 1 - self.lag)))
        return self.server.states[self._seen]

    @staticmethod
    def _get(tree: Tree, path: str) -> tuple[bytes, Znode]:
        if path not in tree:
            raise NoNodeError
        return tree[path].data, tree[path]
