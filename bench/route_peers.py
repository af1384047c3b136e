"""Signed routes over HTTP: the lookup as it is served, and its Flask application on pywsgi. One process each."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ringway.processes import Child, Processes
from ringway.servers import start_lookup

from .peers import HERE, LOAD_CORE, Running, pinned
from .ringway_peer import cluster, pin_apart

SECONDS = 3
CONNECTIONS = 64


def start_pywsgi(processes: Processes, name: str, env: Mapping[str, str | None]) -> Child:
    return processes.start(name, [sys.executable, str(HERE / "servers" / "lookup_pywsgi.py")], env)


@dataclass(frozen=True)
class Lookup:
    """A lookup of a cluster of three nodes."""

    name: str
    fast: bool
    subjects: frozenset[str] = frozenset({"routes"})

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        nodes: dict[str, dict[str, str]] = {f"n{i}": {} for i in range(3)}
        with cluster({}, nodes, start_lookup if self.fast else start_pywsgi) as bench:
            pin_apart(bench.looking)
            yield Running(bench.looking.pid, int(bench.lookup.rsplit(":", 1)[1]))


def routes(port: int) -> dict[str, Any]:
    """Ask for 10,000 users in turn with wrk. Raises RuntimeError where an answer is not a route."""
    script = str(HERE / "load" / "routes.lua")
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", script, f"http://127.0.0.1:{port}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(pinned(LOAD_CORE, words), check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if refused := re.search(r"Non-2xx.*", said):
        raise RuntimeError(f"wrk: {refused[0]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    cpu = round(spent / SECONDS, 3)
    return {"per_s": float(rate[1]), "p50_ms": _ms(said, "50"), "p99_ms": _ms(said, "99"), "cpu": cpu}


def _ms(said: str, percent: str) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", said)
    assert found is not None, said
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


LOOKUPS = (Lookup("ringway", True), Lookup("the same Flask app on pywsgi", False))
