"""Nodes that are nothing but an entry in ZooKeeper and a `/livez`, and a lookup as a process of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

from ringway.core.members import NodeRecord, State
from ringway.processes import Child, Processes
from ringway.servers import LOOKUP_READY, READY_TIMEOUT_S, start_lookup
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.membership import NodeRegistration
from tests.harness import web

QUICK = {"RINGWAY_GUARD_JOIN_DELAY": "0.05", "RINGWAY_GUARD_DEBOUNCE": "0.05", "RINGWAY_ZOOKEEPER_TIMEOUT": "4"}


def eventually(probe: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """Call `probe` until its answer is true; gives that answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = probe()
        except httpx.HTTPError as error:
            answer, seen = None, repr(error)
        else:
            seen = repr(answer)
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not so within {timeout_s:g} s; last: {seen[:500]}"
        time.sleep(0.02)


class LiveZ:
    """A `/livez` that can be dead (refused) and asked how often it was probed."""

    def __init__(self) -> None:
        self.probed = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.probed += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on. A second call does nothing."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


class Entry:
    """One registered node."""

    def __init__(self, zookeeper: str, cluster: str, node: str, state: State, vnodes: int) -> None:
        self.id, self.livez = node, LiveZ()
        self._closed = False
        self.url = f"ws://{node}.test/ws"
        self.zk = ZooKeeper(zookeeper, cluster=cluster, timeout_s=4.0)
        self.zk.start()
        record = NodeRecord(node, self.url, self.livez.url, vnodes, state, uuid.uuid4().hex)
        self.registration = NodeRegistration(self.zk, record)
        self.registration.register()

    def close(self) -> None:
        """Leave. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.registration.close()
            self.zk.stop()
            self.livez.stop()


class Lookup:
    """A lookup process."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.url = child.wait_line(LOOKUP_READY, READY_TIMEOUT_S)[1]

    def get(self, path: str, **params: Any) -> httpx.Response:
        """On a connection of its own, so that the kernel picks any of the workers."""
        return web.get(self.url + path, params=params, timeout=5.0)

    def route(self, uid: str, **params: Any) -> dict[str, Any]:
        answer = self.get("/route", uid=uid, **params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def active(self) -> set[str]:
        answer = self.get("/ring")
        members = answer.json()["members"] if answer.is_success else []
        return {member["id"] for member in members if member["state"] == "active"}


class Cluster:
    """Nodes and lookups of one test."""

    def __init__(self, zookeeper: str, redis: str, name: str) -> None:
        self.env = QUICK | {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis, "RINGWAY_CLUSTER": name,
                            "RINGWAY_PORT": "0"}  # fmt: skip
        self._zookeeper, self._name = zookeeper, name
        self._stack = ExitStack()
        self.processes = self._stack.enter_context(Processes())
        self.nodes: dict[str, Entry] = {}
        self.lookups: list[Lookup] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            for lookup in self.lookups:
                print(*lookup.child.lines, sep="\n")
        for node in self.nodes.values():
            node.close()
        self._stack.close()

    def node(self, node: str, state: State = State.ACTIVE, vnodes: int = 256) -> Entry:
        entry = self.nodes[node] = Entry(self._zookeeper, self._name, node, state, vnodes)
        return entry

    def lookup(self, **env: str) -> Lookup:
        lookup = Lookup(start_lookup(self.processes, f"lookup-{len(self.lookups) + 1}", {**self.env, **env}))
        self.lookups.append(lookup)
        return lookup

    def with_nodes(self, *names: str) -> Lookup:
        """A lookup whose ring has these nodes as active."""
        lookup = self.lookup()
        for name in names:
            self.node(name)
        eventually(lambda: lookup.active() == set(names))
        return lookup
