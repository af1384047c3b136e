"""A client writes as fast as its node allows, and no faster."""

from __future__ import annotations

import pytest

from ringway.client_sdk.pace import Pace
from ringway.core.pacing import TokenBucket


@pytest.mark.parametrize("rate", [0.5, 10.0, 333.0])
def test_a_node_that_counts_never_finds_too_much(rate: float) -> None:
    pace, node, now, written = Pace(rate), TokenBucket(rate, max(1.0, rate * 5)), 100.0, 0
    while now < 160.0:
        if (wait_s := pace.take(now)) > 0:
            now += wait_s + 0.001
        else:
            written += 1
            assert node.take(now * 0.95) == 0, "even if its clock is slower than ours"
    assert written > 60 * rate * 0.7


def test_without_a_limit_nothing_waits() -> None:
    for rate in (None, 0):
        pace = Pace(rate)
        assert not any(pace.take(1.0) for _ in range(10_000))
