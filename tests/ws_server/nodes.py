"""Real node processes whose ring the test writes itself, and a plain client: every handshake case on demand."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import orjson
from kazoo.client import KazooClient
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ringway.core import tickets
from ringway.core.hashing import hashing
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, NodeRecord, RingDocument, State, Version
from ringway.core.ring import Ring
from ringway.processes import Child, Processes
from ringway.servers import NODE_READY, start_node
from ringway.store.keys import Keys
from tests.harness import web
from tests.harness.cluster import metric
from tests.harness.waiting import wait_until

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
XXH = hashing("xxh64-v1")
GEN = 1_700_000_000
READY_S = 30.0


class Client:
    """One WebSocket and the frames it got, by kind."""

    def __init__(self, url: str, compression: str | None = "deflate") -> None:
        self.socket: ClientConnection = connect(url, max_size=1 << 20, compression=compression).__enter__()
        self.frames: list[dict[str, Any]] = []
        self.code: int | None = None
        self.reason = ""

    def send(self, **frame: Any) -> None:
        self.socket.send(orjson.dumps(frame).decode())

    def read(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame. Raises TimeoutError, ConnectionClosed."""
        try:
            frame: dict[str, Any] = orjson.loads(self.socket.recv(timeout_s))
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 1006
            self.reason = closed.rcvd.reason if closed.rcvd else ""
            raise
        self.frames.append(frame)
        return frame

    def wait(self, t: str, timeout_s: float = 5.0, **fields: Any) -> dict[str, Any]:
        """The next frame of a kind with these fields; others before it are kept in `frames`."""
        deadline = time.monotonic() + timeout_s
        while True:
            frame = self.read(max(0.0, deadline - time.monotonic()))
            if frame["t"] == t and fields.items() <= frame.items():
                return frame

    def bodies(self, count: int, timeout_s: float = 5.0) -> list[Any]:
        """The bodies of the next `count` messages."""
        return [self.wait("msg", timeout_s)["body"] for _ in range(count)]

    def quiet(self, seconds: float = 0.3) -> list[dict[str, Any]]:
        """What arrives until nothing has come for so many seconds, or the connection ends."""
        got = []
        try:
            while True:
                got.append(self.read(seconds))
        except (TimeoutError, ConnectionClosed):
            return got

    def closed(self, timeout_s: float = 5.0) -> int:
        """Read until the close; its code."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self.read(max(0.0, deadline - time.monotonic()))
        except ConnectionClosed:
            assert self.code is not None
            return self.code

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RunningNode:
    """A node process."""

    def __init__(self, child: Child, node_id: str) -> None:
        match = child.wait_line(NODE_READY, READY_S)
        self.child, self.id, self.url, self.http = child, node_id, match[2], match[3]

    def get(self, path: str) -> httpx.Response:
        return web.get(self.http + path, timeout=5.0)

    def metric(self, name: str, **labels: str) -> float:
        return metric(self.get("/metrics").text, f"ringway_node_{name}", **labels)

    def ready(self) -> dict[str, Any]:
        return dict(self.get("/readyz").json())


class Nodes:
    """Nodes under a cluster name of their own; `ring` is the publisher."""

    def __init__(self, zookeeper: str, redis_url: str, *ids: str, env: Mapping[str, str] | None = None) -> None:
        self.cluster = f"t{uuid.uuid4().hex[:10]}"
        self.keys = Keys(self.cluster)
        self.env = {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis_url, "RINGWAY_CLUSTER": self.cluster,
                    "RINGWAY_MOVE_LEAST": "1000", **(env or {})}
        self.redis: Any = Redis.from_url(redis_url)
        self.nodes: dict[str, RunningNode] = {}
        self.epoch = 0
        self._ids = ids
        self._zk = KazooClient(zookeeper)
        self._members: dict[str, Member] = {}
        self.clients: list[Client] = []

    def __enter__(self) -> Self:
        self._processes = Processes(on_line=lambda child, line: print(f"{child.name}| {line}"))
        self._zk.start()
        self.redis.ping()
        self._zk.ensure_path(f"/ringway/{self.cluster}/ring")
        try:
            for node_id in self._ids:
                self.start(node_id)
            if self._ids:
                self.ring(*self._ids)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.clients:
            client.socket.socket.close()
            client.close()
        for node in self.nodes.values():
            if node.child.alive:
                node.child.popen.kill()
        self._processes.close()
        self.redis.close()
        for name in self._zk.get_children(f"/ringway/{self.cluster}/nodes") if self.nodes else []:
            self._zk.delete(f"/ringway/{self.cluster}/nodes/{name}")
        self._zk.delete(f"/ringway/{self.cluster}", recursive=True)
        self._zk.stop()
        self._zk.close()

    def start(self, node_id: str, **env: str) -> RunningNode:
        child = start_node(self._processes, node_id, {**self.env, **env})
        node = self.nodes[node_id] = RunningNode(child, node_id)
        return node

    def record(self, node_id: str) -> NodeRecord:
        return NodeRecord.parse(self._zk.get(f"/ringway/{self.cluster}/nodes/{node_id}")[0])

    def ring(self, *ids: str, wait: bool = True, seen_by: tuple[str, ...] | None = None, vnodes: int = 64) -> Version:
        """Publish a ring of these nodes; wait until the running ones (or `seen_by`) go by it."""
        self.epoch += 1
        members = [self._member(node_id, vnodes) for node_id in ids]
        version = Version(GEN, self.epoch)
        document = RingDocument.sign(version=version, alg=XXH.name, members=members, keys=KEYS)
        self.document = document
        self._zk.set(f"/ringway/{self.cluster}/ring", document.to_bytes())
        self._hashed = Ring.build(document.weights, XXH)
        for node_id in (seen_by if seen_by is not None else tuple(self.nodes)) if wait else ():
            node = self.nodes[node_id]
            if node.child.alive:
                wait_until(lambda node=node: node.ready().get("epoch", 0) >= self.epoch, 10.0, f"ring at {node_id}")  # type: ignore[misc]
        return version

    def _member(self, node_id: str, vnodes: int) -> Member:
        node = self.nodes.get(node_id)
        url, http = (node.url, node.http) if node else (f"ws://127.0.0.1:9/{node_id}", f"http://127.0.0.1:9/{node_id}")
        return Member(node_id, url, http, vnodes, State.ACTIVE)

    def owner(self, uid: str) -> str:
        return self._hashed.owner(uid)

    def uid_of(self, node_id: str, prefix: str = "user") -> str:
        """A uid that the node owns."""
        return next(uid for uid in uids(prefix) if self.owner(uid) == node_id)

    def ticket(self, uid: str, node_id: str | None = None, *, epoch: int | None = None, keys: KeyRing = KEYS,
               ttl_s: float = 30.0, reason: str = "route", roles: tuple[str, ...] = ()) -> str:
        version = Version(GEN, self.epoch if epoch is None else epoch)
        return tickets.issue(keys, uid=uid, node=node_id or self.owner(uid), version=version, now=time.time(),
                             ttl_s=ttl_s, roles=roles, reason=reason)

    def connect(self, uid: str, node_id: str | None = None, *, inbox: str | None = None, ticket: str | None = None,
                compression: str | None = "deflate", **how: Any) -> Client:
        """A connection with a ticket of this kind; see `ticket`. Compressed where the node agrees to that."""
        node_id = node_id or self.owner(uid)
        query = {"ticket": ticket or self.ticket(uid, node_id, **how)} | ({"inbox": inbox} if inbox else {})
        client = Client(f"{self.nodes[node_id].url}?{urlencode(query)}", compression)
        self.clients.append(client)
        return client

    def join(self, uid: str, node_id: str | None = None, **how: Any) -> Client:
        """A connection that has been welcomed."""
        client = self.connect(uid, node_id, **how)
        client.wait("welcome")
        return client


def uids(prefix: str) -> Iterator[str]:
    return (f"{prefix}-{i}" for i in range(100_000))


def until(probe: Callable[[], Any], what: str = "", timeout_s: float = 10.0) -> Any:
    return wait_until(probe, timeout_s, what)
