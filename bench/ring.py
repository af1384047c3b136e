"""Ring figures of this machine: lookups a second, the cost of one node's change, moved sessions among 100,000.

    python -m bench.ring           prints a table and the limits, and rewrites bench/results/ring.json

Ends with 1 where a limit of 1,000 nodes is missed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ringway.core.hashing import XXH64, hashing
from ringway.core.ring import Ring, moved_arcs
from ringway.core.session_index import SessionIndex

from .results import write_json

ROUNDS = 9
LOOKUPS = 20_000
SESSIONS = 100_000
VNODES = 256
XX = hashing(XXH64)


@dataclass(frozen=True)
class Limit:
    """What a figure of the ring of 1,000 nodes must be: a change must not stall an event loop."""

    what: str
    figure: str
    bound: float
    at_most: bool = True

    def met(self, row: Mapping[str, float]) -> bool:
        return row[self.figure] <= self.bound if self.at_most else row[self.figure] >= self.bound

    def verdict(self, row: Mapping[str, float]) -> str:
        wanted = f"{'at most' if self.at_most else 'at least'} {self.bound:g}"
        return f"{self.what}: {row[self.figure]:g}, {wanted}: {'met' if self.met(row) else 'MISSED'}"


LIMITS = (
    Limit("one node more, ms", "add_one_ms", 30),
    Limit("one node less, ms", "remove_one_ms", 30),
    Limit("the moved ones among 100,000 sessions, ms", "moved_of_100k_ms", 5),
    Limit("lookups a second", "lookups_per_s", 500_000, at_most=False),
)


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median wall time of `work` in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def measure(nodes: int, index: SessionIndex[str]) -> dict[str, float]:
    """All figures for a ring of `nodes` nodes of 256 virtual nodes each."""
    weights = {f"10.0.{i // 250}.{i % 250}:8080": VNODES for i in range(nodes)}
    ring = Ring.build(weights, XX)
    uids = [f"user-{i}" for i in range(LOOKUPS)]
    more, less = {**weights, "joiner": VNODES}, dict(list(weights.items())[1:])
    joined = ring.with_weights(more)
    arcs = moved_arcs(ring, joined)
    lookups_ms = median_ms(lambda: [ring.owner(uid) for uid in uids])
    return {
        "nodes": nodes,
        "lookups_per_s": round(LOOKUPS / lookups_ms * 1000),
        "build_ms": round(median_ms(lambda: Ring.build(weights, XX), 3), 2),
        "add_one_ms": round(median_ms(lambda: ring.with_weights(more)), 2),
        "remove_one_ms": round(median_ms(lambda: ring.with_weights(less)), 2),
        "arcs_ms": round(median_ms(lambda: moved_arcs(ring, joined)), 2),
        "moved_of_100k_ms": round(median_ms(lambda: index.in_arcs(arcs)), 2),
        "moved_of_100k": len(index.in_arcs(arcs)),
    }


def main() -> int:
    index: SessionIndex[str] = SessionIndex()
    for i in range(SESSIONS):
        index.add(XX.key(f"user-{i}"), f"user-{i}")
    rows = [measure(nodes, index) for nodes in (3, 10, 100, 1000)]
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(str(value) for value in row.values()))
    write_json("ring", rows)
    print(*(limit.verdict(rows[-1]) for limit in LIMITS), sep="\n")
    return 0 if all(limit.met(rows[-1]) for limit in LIMITS) else 1


if __name__ == "__main__":
    sys.exit(main())
