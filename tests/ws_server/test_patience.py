"""How long a client may take for its pong, by what its connection shows: made-up flows, no clock."""

from __future__ import annotations

from math import inf

import pytest

from ringway.ws_server.patience import Flow, Patience

PONG_S = 10.0


def asked(*flows: Flow) -> list[bool]:
    """Its answers, one each `pong_s`, up to the first no."""
    patience = Patience()
    answers: list[bool] = []
    for flow in flows:
        answers.append(patience.lasts(flow, PONG_S))
        if not answers[-1]:
            break
    return answers


@pytest.mark.parametrize("waiting", [0, 2, 64], ids=["mute", "gone", "gone, over TLS"])
def test_a_client_that_does_nothing_gets_no_more(waiting: int) -> None:
    assert asked(Flow(500, waiting, 35.0, 9.9)) == [False]
    assert asked(Flow(0, waiting, inf, inf)) == [False]


def test_a_client_that_takes_what_was_before_the_ping_gets_as_long_as_it_needs() -> None:
    slow = [Flow(taken, 1_000_000 - taken, inf, 1.0) for taken in range(0, 1_000_000, 10_000)]
    assert asked(*slow) == [True] * 100


def test_it_gets_no_more_once_it_takes_nothing() -> None:
    assert asked(Flow(0, 1_000_000, inf, 1.0), *[Flow(50_000, 950_000, inf, 0.1)] * 2) == [True, True, False]
    assert asked(*[Flow(0, 1_000_000, inf, 0.1)] * 2) == [True, False]


def test_once_it_has_the_ping_it_gets_three_times_as_long_at_most() -> None:
    behind = [Flow(0, 1000, inf, 1.0), Flow(1000, 1000, inf, 1.0)]
    busy = [Flow(1000 + 1000 * n, 1000, 0.1, 0.1) for n in range(1, 10)]
    assert asked(*behind, *busy) == [True, True, True, False]


def test_what_it_sends_extends_the_wait_to_three_times_as_long_at_most() -> None:
    assert asked(*[Flow(500, 0, 0.5, 9.9)] * 9) == [True, True, False]
    assert asked(Flow(500, 0, 0.5, 9.9), Flow(500, 0, 10.5, 19.9)) == [True, False]


def test_what_it_took_just_now_counts_though_nothing_waits_any_more() -> None:
    assert asked(Flow(500, 0, inf, 3.0), Flow(500, 0, inf, 13.0)) == [True, False]
