"""A silent node is pinged, and given up only when the ping was not answered."""

from __future__ import annotations

from ringway.client_sdk.liveness import DEFAULT_PING_S, PONG_S, Liveness


def test_a_node_that_talks_is_never_pinged() -> None:
    liveness = Liveness(25, 0)
    for now in range(0, 1000, 20):
        liveness.heard(now)
        assert not liveness.ping_due(now + 20)
        assert not liveness.dead(now + 20)


def test_silence_is_met_with_one_ping_and_then_taken_for_death() -> None:
    liveness = Liveness(25, 100)
    assert liveness.next_s(100) == 25
    assert not liveness.ping_due(124.9)
    assert liveness.ping_due(125)
    assert not liveness.ping_due(126)
    assert liveness.next_s(125) == PONG_S
    assert not liveness.dead(134.9)
    assert liveness.dead(135)


def test_an_answer_to_the_ping_starts_over() -> None:
    liveness = Liveness(25, 0)
    assert liveness.ping_due(25)
    liveness.heard(26)
    assert not liveness.dead(60)
    assert liveness.ping_due(60)


def test_a_timer_that_fires_an_hour_late_asks_before_it_judges() -> None:
    liveness = Liveness(25, 0)
    assert not liveness.dead(3600)
    assert liveness.ping_due(3600)
    assert not liveness.dead(3605)
    assert liveness.dead(3610)


def test_silence_while_nothing_is_read_says_nothing() -> None:
    liveness = Liveness(25, 0)
    assert liveness.ping_due(25)
    liveness.pause()
    assert not liveness.dead(3600)
    assert not liveness.ping_due(3600)
    assert liveness.next_s(3600) == 25
    liveness.resume(3600)
    assert not liveness.dead(3600)
    assert not liveness.ping_due(3624)
    assert liveness.ping_due(3625)
    assert liveness.dead(3635)


def test_a_node_that_names_no_interval_gets_the_default() -> None:
    assert Liveness(0, 0).next_s(0) == DEFAULT_PING_S
