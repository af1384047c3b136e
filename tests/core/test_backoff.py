from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringway.core.backoff import full_jitter, spread


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_below_base_nor_above_cap(attempt: int, r: float) -> None:
    assert 0.5 <= full_jitter(attempt, lambda: r) <= 20.0


def test_the_window_doubles() -> None:
    assert [full_jitter(n, lambda: 0.5) for n in (1, 2, 3, 10)] == [1.0, 1.5, 2.5, 10.5]


@given(st.floats(-5, 60), st.floats(0, 1, exclude_max=True))
def test_a_spread_stays_in_its_window(window: float, r: float) -> None:
    assert 0 <= spread(window, lambda: r) <= max(0, window)
