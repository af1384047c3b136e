"""What is measured: each subject runs one peer once and returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from .loadgen import held_open, load
from .peers import Subjected

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
    with peer.running("handshake") as server:
        row = load("handshake", server.port, "--connections", "32", "--seconds", "3", "--warmup", "0.5", *server.load)
    return {key: value for key, value in row.items() if key not in ("p50_ms", "p99_ms")}  # none are taken here


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
    *(Subject(f"echo {c} connections, {k} in flight, {size} B", "echo", echo(c, k, size))
      for c in (100, 1000) for k in (1, 10) for size in (64, 1024, 16384)),
    Subject("echo over TLS, 100 connections, 1 in flight, 64 B", "tls", echo(100, 1, 64, tls=True)),
    Subject("handshakes", "handshake", handshake),
    *(Subject(f"fan-out to {n}", "fanout", fanout(n)) for n in (100, 1000, 5000)),
    Subject("memory per idle connection", "idle", memory, figure="kib_18000", rounds=1, less_is_better=True),
    Subject("10,000 idle connections, pings every 25 s", "pings", pings, figure="core_percent", rounds=1,
            less_is_better=True),
)
