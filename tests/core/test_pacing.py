from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringway.core.pacing import TokenBucket


def test_the_burst_is_there_at_once_and_then_the_rate_rules() -> None:
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert bucket.take(100.11) == 0
    assert bucket.available(200.0) == 3


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=1)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) > 0
    assert bucket.take(100.05) > 0


@given(st.lists(st.floats(0, 5), max_size=50), st.floats(0.5, 50), st.floats(1, 20))
def test_never_more_than_burst_plus_rate_times_time(gaps: list[float], rate: float, burst: float) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        while bucket.take(now) == 0:
            taken += 1
    assert taken <= burst + rate * now + 1e-6
