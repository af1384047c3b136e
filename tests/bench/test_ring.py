"""The limits of the ring: what the committed run says of them, and how a missed one reads."""

from __future__ import annotations

import json
from pathlib import Path

from bench.ring import LIMITS

ROWS = json.loads((Path(__file__).parents[2] / "bench" / "results" / "ring.json").read_text())["rows"]


def test_the_committed_run_of_1_000_nodes_meets_every_limit() -> None:
    row = ROWS[-1]
    assert row["nodes"] == 1000
    assert [limit.verdict(row) for limit in LIMITS if not limit.met(row)] == []


def test_a_missed_limit_says_so() -> None:
    slow = {"add_one_ms": 31.0, "remove_one_ms": 30.5, "moved_of_100k_ms": 5.1, "lookups_per_s": 1000.0}
    assert [limit.met(slow) for limit in LIMITS] == [False] * len(LIMITS)
    assert LIMITS[0].verdict(slow) == "one node more, ms: 31, at most 30: MISSED"
    assert LIMITS[-1].verdict(slow) == "lookups a second: 1000, at least 500000: MISSED"
