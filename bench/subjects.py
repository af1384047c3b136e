"""What is measured: each subject measures one running server once and returns its figures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .idle import MEMORY_FIGURE, memory, pings
from .loadgen import load
from .peers import Running
from .processes import cpu_s, tree
from .route_peers import SECONDS as ROUTES_SECONDS
from .route_peers import routes
from .slow_readers import beside_slow_readers

Row = dict[str, Any]
OURS = "ringway"
CEILING = "ceiling (C, epoll)"
FEW = frozenset({OURS, "flask-sock", "picows+uvloop", "node ws", CEILING, "bare loop of sends"})
GROWTH = (100, 1_000, 10_000)
FANOUTS = (1, 10, 100, 1_000, 5_000)
HANDSHAKES_PER_S = 30_000  # more than any server does: so many tickets are made for a second of them


@dataclass(frozen=True)
class Subject:
    """A named measurement. `kind` says what the server is started for; `figure` is what ratios are made of.

    `others`: in how many of the rounds the peers take part that are not of FEW. `cold`: the server is started anew
    each time. `together`: all servers in one go, as each needs little of the core. `takes_s` is what one measurement
    takes beside `seconds`, roughly, for the plan.
    """

    name: str
    kind: str
    run: Callable[[Running, float], Row]
    figure: str = "per_s"
    rounds: int = 5
    seconds: float = 1.2
    takes_s: float = 0.4
    less_is_better: bool = False
    others: int = 5
    cold: bool = False
    together: bool = False


def echo(
    connections: int, inflight: int, size: int, *, tls: bool = False, cork: bool = True
) -> Callable[[Running, float], Row]:
    options = ("--inflight", str(inflight), "--size", str(size), "--tls", str(int(tls)), "--cork", str(int(cork)))

    def run(server: Running, seconds: float) -> Row:
        return load("echo", server, connections, seconds, *options)

    return run


def handshake(server: Running, seconds: float) -> Row:
    """Rate, and what one costs the server: its processor time says more than the rate on a busy machine."""
    row = load("handshake", server, 128, seconds, tickets=round(HANDSHAKES_PER_S * seconds * 1.25) + 128)
    return {key: value for key, value in row.items() if key not in ("p50_ms", "p99_ms")}  # none are taken here


def relay(pairs: int, inflight: int) -> Callable[[Running, float], Row]:
    """A message counts when the receiver has it. Servers, Redis and the generator share the machine's cores; what it
    costs is the processor time of all that was started for it."""

    def run(server: Running, seconds: float) -> Row:
        everything = tree(os.getpid())[1:]
        return load("relay", server, pairs, seconds, "--inflight", str(inflight), core=None, watched=everything)

    return run


def lookups(server: Running, _seconds: float) -> Row:
    pids = server.pids
    before = cpu_s(pids)
    row = routes(server.port)
    spent = cpu_s(pids) - before
    return {**row, "server_us": round(spent / (row["per_s"] * ROUTES_SECONDS) * 1e6, 2)}


def fanout(connections: int) -> Callable[[Running, float], Row]:
    def run(server: Running, seconds: float) -> Row:
        return load("fanout", server, connections, seconds, "--prefix", "fan:")

    return run


def echo_name(connections: int, inflight: int, size: int) -> str:
    in_words = f"{size} B" if size < 1024 else f"{size // 1024} KiB"
    return f"echo {connections} connections, {inflight} in flight, {in_words}"


def _echo(connections: int, inflight: int, size: int, *, others: int = 5, seconds: float = 1.2) -> Subject:
    takes_s = 0.4 + connections / 4000
    return Subject(echo_name(connections, inflight, size), "echo", echo(connections, inflight, size), others=others,
                   seconds=seconds, takes_s=takes_s)


# In the order in which they run: what matters most is first, and subjects of one kind are together.
SUBJECTS = (
    _echo(100, 1, 64, seconds=1.5),
    _echo(100, 10, 64, seconds=1.5),
    Subject(echo_name(100, 10, 64) + ", a write each", "echo", echo(100, 10, 64, cork=False), others=0),
    _echo(1_000, 1, 64),
    _echo(10_000, 1, 64, others=0),
    _echo(1_000, 10, 64, others=0),
    *(_echo(n, k, size, others=0, seconds=1.5 if size * n * k > 1e8 else 0.8)  # 160 MB under way take their time
      for size in (1024, 16384) for n in (100, 1_000) for k in (1, 10)),
    # Last of its kind: a hundred thousand sessions have come and gone on the servers when it is over.
    Subject("handshakes", "echo", handshake, seconds=1.5),
    Subject("echo over TLS, 100 connections, 1 in flight, 64 B", "tls", echo(100, 1, 64, tls=True)),
    *(Subject(f"fan-out to {n}", "fanout", fanout(n), others=0, seconds=1.0, takes_s=0.4 + n / 4000) for n in FANOUTS),
    Subject("signed routes", "routes", lookups, seconds=ROUTES_SECONDS),
    Subject("echo beside slow readers", "slow", beside_slow_readers, figure="p99_ms", others=0, less_is_better=True,
            takes_s=3.0),
    Subject("node to node, 1 in flight", "relay", relay(1, 1), cold=True, takes_s=4.0),
    Subject("node to node, 200 in flight", "relay", relay(20, 10), cold=True, takes_s=4.0),
    Subject("10,000 idle connections, pings every 25 s", "pings", pings, figure="core_percent", seconds=25.0,
            takes_s=0.1, less_is_better=True, together=True),
    Subject("memory per idle connection", "idle", memory, figure=MEMORY_FIGURE, seconds=0.2, takes_s=8.0,
            others=1, less_is_better=True, cold=True),
)
