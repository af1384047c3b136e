"""What is measured: each subject runs one peer once and returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from .loadgen import held_open, load
from .peers import Peer, running

Row = dict[str, Any]
IDLE_STEPS = (1_000, 6_000, 12_000, 18_000)
PING_CONNECTIONS = 10_000
PING_SECONDS = 55.0  # two rounds of pings every 25 s


@dataclass(frozen=True)
class Subject:
    """A named measurement. `kind` decides which peers take part; `figure` is the one that ratios are made of."""

    name: str
    kind: str
    run: Callable[[Peer], Row]
    figure: str = "per_s"
    rounds: int = 5
    less_is_better: bool = False


def echo(connections: int, inflight: int, size: int, *, tls: bool = False) -> Callable[[Peer], Row]:
    def run(peer: Peer) -> Row:
        options = ["--connections", str(connections), "--inflight", str(inflight), "--size", str(size),
                   "--seconds", "2", "--warmup", "0.5", "--tls", str(int(tls)), *peer.load]
        with running(peer, tls=tls) as (_, port):
            return load("echo", port, *options)

    return run


def handshake(peer: Peer) -> Row:
    with running(peer) as (_, port):
        row = load("handshake", port, "--connections", "32", "--seconds", "3", "--warmup", "0.5", *peer.load)
    return {key: value for key, value in row.items() if key not in ("p50_ms", "p99_ms")}  # none are taken here


def fanout(connections: int) -> Callable[[Peer], Row]:
    def run(peer: Peer) -> Row:
        options = ["--connections", str(connections), "--seconds", "3", "--warmup", "1", "--prefix", "fan:", *peer.load]
        with running(peer) as (_, port):
            return load("fanout", port, *options)

    return run


def memory(peer: Peer) -> Row:
    """Resident memory per idle connection from a cold start, at each step: KiB."""
    row: Row = {}
    for connections in IDLE_STEPS:
        with running(peer) as (process, port):
            rss = psutil.Process(process.pid).memory_info
            before = rss().rss
            with held_open(port, connections, 120, *peer.load):
                time.sleep(1.0)  # settling: the figure is a level, not an event
                row[f"kib_{connections}"] = round((rss().rss - before) / connections / 1024, 2)
    return row


def pings(peer: Peer) -> Row:
    """Share of a core that 10,000 idle connections with pings every 25 s cost."""
    with running(peer) as (process, port), held_open(port, PING_CONNECTIONS, 300, *peer.load):
        spent = psutil.Process(process.pid).cpu_times
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
