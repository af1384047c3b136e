"""ringway as one of the servers: a node with its lookup, ZooKeeper's protocol and Redis around it.

Every connection has a ticket of its own and a full session behind it. Tickets are made before the measurement: what a
node does with one (verify, once only) is part of every handshake figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from ringway.core import tickets
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Version
from ringway.processes import Child, Processes
from ringway.servers import (
    LOOKUP_READY,
    NODE_READY,
    READY_TIMEOUT_S,
    start_lookup,
    start_node,
    start_redis,
    start_zookeeper,
)

from .peers import EVERY_SUBJECT, SERVER_CORE, WORK, Running, certificate

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
TICKET_TTL_S = 900.0


@dataclass
class Bench:
    """A running cluster: its lookup's URL, its nodes' processes and ports by id, the ring's version."""

    lookup: str
    nodes: dict[str, tuple[Child, int]]
    version: Version

    def ticket(self, uid: str, node: str) -> str:
        return tickets.issue(KEYS, uid=uid, node=node, version=self.version, now=time.time(), ttl_s=TICKET_TTL_S)

    def paths(self, uids: Iterator[tuple[str, str]], file: Path) -> Path:
        """A file with a request path, ticket included, for each (uid, node id)."""
        file.write_text("".join(f"/ws?ticket={self.ticket(uid, node)}\n" for uid, node in uids))
        return file


@contextmanager
def cluster(env: dict[str, str], node_envs: dict[str, dict[str, str]]) -> Iterator[Bench]:
    """A cluster of these nodes, ready; stopped at the end. `env` goes to every process."""
    with Processes(on_line=lambda _child, _line: None) as processes:
        _, zookeeper = start_zookeeper(processes)
        _, redis = start_redis(processes)
        common = {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis, "RINGWAY_PORT": "0",
                  "RINGWAY_LOG_LEVEL": "warning", **env}
        children = {node: start_node(processes, node, {**common, **extra}) for node, extra in node_envs.items()}
        lookup = start_lookup(processes, "lookup", common).wait_line(LOOKUP_READY, READY_TIMEOUT_S)[1]
        nodes = {}
        for node, child in children.items():
            url = child.wait_line(NODE_READY, READY_TIMEOUT_S)[2]
            nodes[node] = (child, int(url.rsplit(":", 1)[1].split("/")[0]))
        yield Bench(lookup, nodes, settled(lookup, set(nodes)))


def settled(lookup: str, nodes: set[str]) -> Version:
    """The ring's version once all nodes are active in it. Raises TimeoutError after 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = httpx.get(f"{lookup}/ring")
        if answer.status_code == 200:
            ring = answer.json()
            if nodes <= {m["id"] for m in ring["members"] if m["state"] == "active"}:
                return Version(ring["gen"], ring["epoch"])
        time.sleep(0.1)
    raise TimeoutError("the ring is not complete after 20 s")


TICKETS = {"handshake": 150_000, "idle": 18_000, "pings": 10_000, "fanout": 5_000}


@dataclass(frozen=True)
class RingwayPeer:
    """One node; behind each connection a full session: ticket, registry, inbox, resume ticket."""

    name: str = "ringway"
    subjects: frozenset[str] = EVERY_SUBJECT

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        app = "fanout" if kind == "fanout" else "echo"
        env = {"RINGWAY_APP": f"bench.node_app:{app}", "RINGWAY_QUEUE_BYTES": str(64 << 20)}
        if kind == "tls":
            env["RINGWAY_TLS_CERT"], env["RINGWAY_TLS_KEY"] = certificate()
        with cluster({}, {"n1": env}) as bench:
            child, port = bench.nodes["n1"]
            psutil.Process(child.pid).cpu_affinity([int(SERVER_CORE)])
            paths = bench.paths(((f"u{i}", "n1") for i in range(TICKETS.get(kind, 1_000))), WORK / "paths")
            yield Running(child.pid, port, ("--swallow", "1", "--paths", str(paths)))


RINGWAY = RingwayPeer()
