"""A whole cluster of real processes for a test: nodes and lookups on free ports of loopback, always stopped.

    with Cluster(zookeeper="127.0.0.1:2181", redis="redis://127.0.0.1:6379/0", nodes=3) as cluster:
        answer = cluster.route("alice")
        cluster.nodes["node-2"].kill()
"""

from __future__ import annotations

import os
import signal
import tempfile
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from ringway.processes import Child, Processes
from ringway.servers import LOOKUP_READY, NODE_READY, READY_TIMEOUT_S, start_lookup, start_node
from tests.harness import web
from tests.harness.waiting import wait_until

NOT_YET = (httpx.HTTPError, OSError)


class Server:
    """One process of the cluster, with its faults."""

    def __init__(self, child: Child, log: Path) -> None:
        self.child = child
        self.log = log
        self.pid = child.pid

    def kill(self) -> None:
        """kill -9, of the process and its workers."""
        self.child.stopping = True
        self.child.send_group(signal.SIGKILL)
        self.child.wait(10.0)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and answer nothing."""
        self.child.send_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_group(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: drain and exit; `wait_exit` tells how it went."""
        self.child.stopping = True
        self.child.send(signal.SIGTERM)

    def wait_exit(self, timeout_s: float = 30.0) -> int:
        assert self.child.wait(timeout_s), f"{self.child.name} still runs after {timeout_s:g} s"
        assert self.child.popen.returncode is not None
        return int(self.child.popen.returncode)

    @property
    def alive(self) -> bool:
        return self.child.alive


class NodeServer(Server):
    """`url` is the WebSocket URL that clients get, `http` the base of its HTTP endpoints."""

    def __init__(self, child: Child, log: Path, node_id: str) -> None:
        super().__init__(child, log)
        self.id = node_id
        match = child.wait_line(NODE_READY, READY_TIMEOUT_S)
        self.url, self.http = match[2], match[3]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that carry these labels; 0 if there are none."""
        return metric(web.get(f"{self.http}/metrics").text, name, **labels)


class LookupServer(Server):
    def __init__(self, child: Child, log: Path) -> None:
        super().__init__(child, log)
        self.url = child.wait_line(LOOKUP_READY, READY_TIMEOUT_S)[1]

    def get(self, path: str, **params: Any) -> httpx.Response:
        return web.get(f"{self.url}{path}", params=params, timeout=10.0)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of `name` with `labels` in a text of Prometheus's format."""
    total = 0.0
    for line in text.splitlines():
        sample, _, value = line.rpartition(" ")
        given, _, rest = sample.partition("{")
        if given == name and all(f'{key}="{wanted}"' in rest for key, wanted in labels.items()):
            total += float(value)
    return total


RUNNING: list[Cluster] = []  # in this process


class Cluster:
    """N nodes and M lookups under a cluster name of their own. `env` goes to every process, `node_env` to nodes."""

    def __init__(
        self,
        *,
        zookeeper: str,
        redis: str,
        nodes: int = 3,
        lookups: int = 1,
        workers: int = 1,
        env: Mapping[str, str] | None = None,
        node_env: Mapping[str, str] | None = None,
        lookup_env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"t{uuid.uuid4().hex[:10]}"
        self.folder = Path(tempfile.mkdtemp(prefix="ringway-test-"))
        self.env = {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis, "RINGWAY_CLUSTER": self.name}
        self.env |= {"RINGWAY_PORT": "0", "RINGWAY_HOST": "127.0.0.1", **(env or {})}
        self.node_env = dict(node_env or {})
        self.lookup_env = {"RINGWAY_WORKERS": str(workers), **(lookup_env or {})}
        self.nodes: dict[str, NodeServer] = {}
        self.lookups: list[LookupServer] = []
        self._sizes = (nodes, lookups)
        self._processes: Processes

    def __enter__(self) -> Cluster:
        self._processes = Processes(on_line=self._log)
        RUNNING.append(self)
        try:
            self._start_all(*self._sizes)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        RUNNING.remove(self)
        servers: list[Server] = [*self.nodes.values(), *self.lookups]
        for server in servers:
            if server.alive:
                server.thaw()
                server.child.stopping = True
                server.child.send_group(signal.SIGKILL)  # a test wants an end, not a drain
        self._processes.close()
        if error is not None:
            print(self.logs())

    def add_node(
        self,
        node_id: str | None = None,
        *,
        vnodes: int | None = None,
        wait: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> NodeServer:
        """Start one more node; with `wait`, return when every lookup's ring has it as active."""
        node_id = node_id or f"node-{len(self.nodes) + 1}"
        extra = {"RINGWAY_VNODES": str(vnodes)} if vnodes else {}
        child = start_node(self._processes, node_id, {**self.env, **self.node_env, **extra, **(env or {})})
        node = self.nodes[node_id] = NodeServer(child, self._log_path(node_id), node_id)
        if wait:
            self.wait_active({node_id})
        return node

    def add_lookup(self, *, env: Mapping[str, str] | None = None) -> LookupServer:
        name = f"lookup-{len(self.lookups) + 1}"
        child = start_lookup(self._processes, name, {**self.env, **self.lookup_env, **(env or {})})
        lookup = LookupServer(child, self._log_path(name))
        self.lookups.append(lookup)
        return lookup

    @property
    def url(self) -> str:
        """The first live lookup."""
        return next(lookup.url for lookup in self.lookups if lookup.alive)

    def route(self, uid: str, **params: Any) -> dict[str, Any]:
        """The answer of `GET /route`. Raises httpx.HTTPStatusError on any refusal."""
        answer = web.get(f"{self.url}/route", params={"uid": uid, **params}, timeout=10.0)
        answer.raise_for_status()
        return dict(answer.json())

    def ring(self, lookup: LookupServer | None = None) -> dict[str, Any]:
        answer = web.get(f"{lookup.url if lookup else self.url}/ring", timeout=10.0)
        answer.raise_for_status()
        return dict(answer.json())

    def active(self, lookup: LookupServer | None = None) -> set[str]:
        """Ids of the active members in a lookup's ring; empty while it has none."""
        try:
            members = self.ring(lookup)["members"]
        except httpx.HTTPStatusError:
            return set()
        return {member["id"] for member in members if member["state"] == "active"}

    def wait_active(self, node_ids: set[str], timeout_s: float = 30.0) -> None:
        """Wait until every live lookup's ring has these nodes as active members."""
        for lookup in filter(lambda server: server.alive, self.lookups):
            wait_until(partial(self._has, lookup, node_ids), timeout_s, f"{node_ids} active", ignore=NOT_YET)

    def wait_gone(self, node_id: str, timeout_s: float = 30.0) -> None:
        """Wait until no live lookup's ring has this node as an active member."""
        for lookup in filter(lambda server: server.alive, self.lookups):
            wait_until(partial(self._lacks, lookup, node_id), timeout_s, f"{node_id} gone", ignore=NOT_YET)

    def _has(self, lookup: LookupServer, node_ids: set[str]) -> bool:
        return node_ids <= self.active(lookup)

    def _lacks(self, lookup: LookupServer, node_id: str) -> bool:
        return node_id not in self.active(lookup)

    def logs(self, lines: int = 40) -> str:
        """The end of each process's log, for pytest to show with the failure."""
        return "\n".join(line for path in sorted(self.folder.glob("*.log"))
                         for line in (f"--- {path.stem}", *path.read_text().splitlines()[-lines:]))  # fmt: skip

    def _start_all(self, nodes: int, lookups: int) -> None:
        for _ in range(lookups):
            self.add_lookup()
        for _ in range(nodes):
            self.add_node(wait=False)
        if lookups:
            self.wait_active(set(self.nodes))

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _log(self, child: Child, line: str) -> None:
        with self._log_path(child.name).open("a") as log:
            log.write(line + os.linesep)
