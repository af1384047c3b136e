"""What is measured: each subject runs one peer once and returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .loadgen import held_open, load
from .peers import Subjected
from .route_peers import routes
from .slow_readers import rest_of, slow_readers

Row = dict[str, Any]
IDLE_STEPS = (1_000, 6_000, 12_000, 18_000)
PING_CONNECTIONS = 10_000
PING_SECONDS = 55.0  # two rounds of pings every 25 s


@dataclass(frozen=True)
class Subject:
    """A named measurement. `kind` decides which peers take part; `figure` is the one that ratios are made of."""

    name: str
    kind: str
    run: Callable[[Subjected], Row]
    figure: str = "per_s"
    rounds: int = 5
    less_is_better: bool = False


def echo(connections: int, inflight: int, size: int, *, tls: bool = False) -> Callable[[Subjected], Row]:
    def run(peer: Subjected) -> Row:
        options = ["--connections", str(connections), "--inflight", str(inflight), "--size", str(size),
                   "--seconds", "2", "--warmup", "0.5", "--tls", str(int(tls))]
        with peer.running("tls" if tls else "echo") as server:
            return load("echo", server.port, *options, *server.load)

    return run


def handshake(peer: Subjected) -> Row:
    """Rate, and what one costs the server: microseconds of its CPU, which says more than the rate on a busy machine."""
    seconds, warmup = 3.0, 0.5
    options = ["--connections", "128", "--seconds", str(seconds), "--warmup", str(warmup)]
    with peer.running("handshake") as server:
        spent = psutil.Process(server.pid).cpu_times
        before = spent()
        row = load("handshake", server.port, *options, *server.load)
        after = spent()
    cost_s = after.user + after.system - before.user - before.system
    row["server_us"] = round(cost_s * 1e6 / max(row["count"] * (seconds + warmup) / seconds, 1), 1)
    return {key: value for key, value in row.items() if key not in ("p50_ms", "p99_ms")}  # none are taken here


def relay(pairs: int, inflight: int) -> Callable[[Subjected], Row]:
    """A message counts when the receiver has it. Servers, Redis and the generator share the machine's cores."""

    def run(peer: Subjected) -> Row:
        options = ["--connections", str(pairs), "--inflight", str(inflight), "--seconds", "3", "--warmup", "0.5"]
        with peer.running("relay") as server:
            return load("relay", server.port, *options, *server.load, core=None)

    return run


def lookups(peer: Subjected) -> Row:
    with peer.running("routes") as server:
        return routes(server.port)


def beside_slow_readers(peer: Subjected) -> Row:
    """Echo of 100 connections while clients that send 50 MB each, and never read the echo of it, come one by one."""
    options = ["--connections", "100", "--inflight", "1", "--size", "64", "--seconds", "3", "--warmup", "0.5"]
    with peer.running("slow") as server:
        paths = Path(server.load[server.load.index("--paths") + 1]).read_text().split()
        alone = load("echo", server.port, *options, *server.load)
        with slow_readers(server.port, paths[500:]) as closed:
            beside = load("echo", server.port, *options, *server.load[:-1], str(rest_of(paths)))
        return {"per_s": beside["per_s"], "p50_ms": beside["p50_ms"], "p99_ms": beside["p99_ms"],
                "p99_alone_ms": alone["p99_ms"], "closed_4101": closed.count(4101), "cpu": beside["cpu"]}


def fanout(connections: int) -> Callable[[Subjected], Row]:
    def run(peer: Subjected) -> Row:
        options = ["--connections", str(connections), "--seconds", "3", "--warmup", "1", "--prefix", "fan:"]
        with peer.running("fanout") as server:
            return load("fanout", server.port, *options, *server.load)

    return run


def memory(peer: Subjected) -> Row:
    """Resident memory per idle connection from a cold start, at each step: KiB."""
    row: Row = {}
    for connections in IDLE_STEPS:
        with peer.running("idle") as server:
            rss = psutil.Process(server.pid).memory_info
            before = rss().rss
            with held_open(server.port, connections, 120, *server.load):
                time.sleep(1.0)  # settling: the figure is a level, not an event
                row[f"kib_{connections}"] = round((rss().rss - before) / connections / 1024, 2)
    return row


def pings(peer: Subjected) -> Row:
    """Share of a core that 10,000 idle connections with pings every 25 s cost."""
    with peer.running("pings") as server, held_open(server.port, PING_CONNECTIONS, 300, *server.load):
        spent = psutil.Process(server.pid).cpu_times
        time.sleep(2.0)
        before, start = spent(), time.monotonic()
        time.sleep(PING_SECONDS)
        after, seconds = spent(), time.monotonic() - start
        return {"core_percent": round((after.user + after.system - before.user - before.system) / seconds * 100, 2)}


SUBJECTS = (
    Subject("echo 100 connections, 1 in flight, 64 B", "echo", echo(100, 1, 64)),
    Subject("echo 100 connections, 10 in flight, 64 B", "echo", echo(100, 10, 64)),
    Subject("handshakes", "handshake", handshake),
    *(Subject(f"echo 100 connections, {k} in flight, {size} B", "echo", echo(100, k, size), rounds=3)
      for k in (1, 10) for size in (1024, 16384)),
    *(Subject(f"echo 1000 connections, {k} in flight, 64 B", "echo", echo(1000, k, 64), rounds=3) for k in (1, 10)),
    Subject("echo 10000 connections, 1 in flight, 64 B", "echo", echo(10_000, 1, 64), rounds=3),
    Subject("echo over TLS, 100 connections, 1 in flight, 64 B", "tls", echo(100, 1, 64, tls=True), rounds=3),
    *(Subject(f"fan-out to {n}", "fanout", fanout(n), rounds=r) for n, r in ((100, 3), (1000, 3), (5000, 5))),
    Subject("node to node, 1 in flight", "relay", relay(1, 1)),
    Subject("node to node, 200 in flight", "relay", relay(20, 10)),
    Subject("signed routes", "routes", lookups),
    Subject("echo beside slow readers", "slow", beside_slow_readers, figure="p99_ms", rounds=3,
            less_is_better=True),
    Subject("memory per idle connection", "idle", memory, figure="kib_18000", rounds=1, less_is_better=True),
    Subject("10,000 idle connections, pings every 25 s", "pings", pings, figure="core_percent", rounds=1,
            less_is_better=True),
)
