"""The cluster that `bench.soak` strikes, and the notes of what was done to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.harness.cluster import Cluster, LookupServer, NodeServer, metric
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.zookeepers import Ensemble

from .ways import Way

Span = tuple[str, float, float]  # a part, from, until


@dataclass
class Rig:
    """The cluster and its servers.

    Attributes:
        hurt: when which part was struck and healed; `drained`: when which node was told to drain, and was gone.
        frozen: when which node stood still: the time of what it was about to do stood still as well.
        flapped: which node has just left too often, and when it came for the last time.
        backup: ZooKeeper's data as they were at the beginning.
    """

    cluster: Cluster
    ensemble: Ensemble
    redis: RealRedis
    stack: ExitStack
    hurt: list[Span] = field(default_factory=list)
    drained: list[Span] = field(default_factory=list)
    frozen: list[Span] = field(default_factory=list)
    flapped: list[tuple[str, float]] = field(default_factory=list)
    backup: Sequence[Path] = ()
    started: int = 0
    ways: dict[str, Way] = field(default_factory=dict)

    @contextmanager
    def hurting(self, name: str) -> Iterator[None]:
        """Notes for how long a part cannot be expected to do anything."""
        with noted(self.hurt, name):
            yield

    @contextmanager
    def draining(self, name: str) -> Iterator[None]:
        with noted(self.drained, name):
            yield

    @contextmanager
    def freezing(self, name: str) -> Iterator[None]:
        with noted(self.frozen, name):
            yield

    def way(self, name: str) -> Way:
        """A part's own way to ZooKeeper; the same one when the part is started again."""
        if name not in self.ways:
            self.ways[name] = self.stack.enter_context(Way([server.address for server in self.ensemble.servers]))
        return self.ways[name]

    def way_of(self, lookup: LookupServer) -> Way:
        return self.way(f"lookup {port_of(lookup)}")

    def start_node(self, name: str) -> NodeServer:
        return self.cluster.add_node(name, wait=False, env=self.way(name).env)

    def start_lookup(self, port: str | None = None) -> LookupServer:
        """At the port of one that was killed: clients have a list of addresses."""
        port = port or str(pick_port())  # below the ephemeral range, so that nobody else takes it meanwhile
        return self.cluster.add_lookup(env={"RINGWAY_PORT": port, **self.way(f"lookup {port}").env})

    def nodes(self) -> list[NodeServer]:
        return [node for _, node in sorted(self.cluster.nodes.items()) if node.alive]

    def lookups(self) -> list[LookupServer]:
        return [lookup for lookup in self.cluster.lookups if lookup.alive]

    def publisher(self) -> LookupServer:
        """Who publishes now; some lookup, where nobody does (ZooKeeper is away)."""
        for lookup in self.lookups():
            try:
                if metric(httpx.get(f"{lookup.url}/metrics", timeout=2.0).text, "ringway_lookup_publisher") > 0:
                    return lookup
            except httpx.HTTPError:
                continue
        return self.lookups()[0]


@contextmanager
def noted(spans: list[Span], name: str) -> Iterator[None]:
    since = time.monotonic()
    spans.append((name, since, float("inf")))
    place = len(spans) - 1
    try:
        yield
    finally:
        spans[place] = (name, since, time.monotonic())


def port_of(lookup: LookupServer) -> str:
    return lookup.url.rpartition(":")[2]
