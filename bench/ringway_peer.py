"""ringway as one of the servers: a node with its lookup, ZooKeeper's protocol and Redis around it.

Every connection has a ticket of its own and a full session behind it. Tickets are made before the measurement: what a
node does with one (verify, once only) is part of every handshake figure.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx

from ringway.core import tickets
from ringway.core.hashing import XXH64, hashing
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Version
from ringway.core.ring import Ring
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

from . import processes as measured
from .peers import EVERY_SUBJECT, PINGS_S, WORK, Running, certificate

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
TICKET_TTL_S = 900.0


@dataclass
class Bench:
    """A running cluster: its lookup's URL and process, its nodes' processes and ports by id, the ring's version."""

    lookup: str
    looking: Child
    nodes: dict[str, tuple[Child, int]]
    version: Version

    def ticket(self, uid: str, node: str) -> str:
        return tickets.issue(KEYS, uid=uid, node=node, version=self.version, now=time.time(), ttl_s=TICKET_TTL_S)

    def uids(self, node: str, count: int) -> list[str]:
        """So many users that the ring gives to this node."""
        members = httpx.get(f"{self.lookup}/ring").json()["members"]
        ring = Ring.build({m["id"]: m["vnodes"] for m in members}, hashing(XXH64))
        return list(islice((uid for i in itertools.count() if ring.owner(uid := f"u{i}") == node), count))

    def paths(self, uids: Iterator[tuple[str, str]], file: Path) -> Path:
        """A file with a request path, ticket included, for each (uid, node id)."""
        file.write_text("".join(f"/ws?ticket={self.ticket(uid, node)}\n" for uid, node in uids))
        return file


@contextmanager
def cluster(
    env: dict[str, str], node_envs: dict[str, dict[str, str]],
    lookup: Callable[[Processes, str, Mapping[str, str | None]], Child] = start_lookup,
) -> Iterator[Bench]:
    """A cluster of these nodes, ready; stopped at the end. `env` goes to every process."""
    with Processes(on_line=lambda _child, _line: None) as processes:
        _, zookeeper = start_zookeeper(processes)
        _, redis = start_redis(processes)
        common = {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis, "RINGWAY_PORT": "0",
                  "RINGWAY_LOG_LEVEL": "warning", **env}
        children = {node: start_node(processes, node, {**common, **extra}) for node, extra in node_envs.items()}
        looking = lookup(processes, "lookup", common)
        url = looking.wait_line(LOOKUP_READY, READY_TIMEOUT_S)[1]
        nodes = {}
        for node, child in children.items():
            address = child.wait_line(NODE_READY, READY_TIMEOUT_S)[2]
            nodes[node] = (child, int(address.rsplit(":", 1)[1].split("/")[0]))
        try:
            yield Bench(url, looking, nodes, settled(url, set(nodes)))
        finally:
            for child in (*children.values(), looking):
                child.send_group(signal.SIGKILL)  # what is measured is over: no drain to wait for


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


def pin_apart(server: Child) -> None:
    """What is measured has the servers' core for itself; the rest of the cluster shares the generator's."""
    measured.pin_apart(server.pid)


@dataclass(frozen=True)
class RingwayPeer:
    """One node; behind each connection a full session: ticket, registry, inbox, resume ticket."""

    name: str = "ringway"
    subjects: frozenset[str] = EVERY_SUBJECT
    pure: bool = False  # without the compiled part

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        app = "fanout" if kind == "fanout" else "echo"
        env = {"RINGWAY_APP": f"bench.node_app:{app}", "RINGWAY_PING": str(PINGS_S)}
        if kind != "slow":  # no peer has a limit
            env["RINGWAY_QUEUE_BYTES"] = str(64 << 20)
        if self.pure:
            env["RINGWAY_PURE_PYTHON"] = "1"
        if kind == "tls":
            env["RINGWAY_TLS_CERT"], env["RINGWAY_TLS_KEY"] = certificate()
        with cluster({}, {"n1": env}) as bench:
            child, port = bench.nodes["n1"]
            pin_apart(child)

            def renewed(connections: int) -> tuple[str, ...]:
                """A ticket is good for one connection."""
                paths = bench.paths(((f"u{i}", "n1") for i in range(connections)), WORK / "paths")
                return "--swallow", "1", "--paths", str(paths)

            yield Running(child.pid, port, renewed=renewed)


RINGWAY = RingwayPeer()
RINGWAY_PURE = RingwayPeer("ringway, Python alone", frozenset({"echo"}), pure=True)
