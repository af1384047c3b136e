"""The soak's judgement: which closes are wrong, and which a join, a drain or a death explains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.soak import Round, totals, wrong_answers, wrong_closes
from bench.soak_faults import Rig
from tests.harness.agreement import Asked
from tests.harness.clients import Closed, Opened, PlainClient


def rig(*hurt: tuple[str, float, float]) -> Rig:
    return Rig(cast(Any, None), cast(Any, None), cast(Any, None), hurt=list(hurt))


def crowd(*closes: Closed) -> Any:
    client = PlainClient("alice", opened=[Opened("node-1", 3, 10.0)], closed=list(closes))
    return [client]


@pytest.mark.parametrize(
    ("close", "hurt", "wrong"),
    [
        (Closed(4300, "", 20.0), [], 0),
        (Closed(4301, "", 20.0), [], 0),
        (Closed(4200, "", 20.0), [], 1),
        (Closed(1006, "", 20.0), [], 1),
        (Closed(1006, "", 20.0), [("node-1", 19.9, 25.0)], 0),
        (Closed(1006, "", 20.0), [("node-2", 19.9, 25.0)], 1),
        (Closed(1006, "", 20.0), [("node-1", 12.0, 15.0)], 1),
    ],
)
def test_only_a_join_a_drain_or_its_own_nodes_death_may_close_a_session(
    close: Closed, hurt: list[tuple[str, float, float]], wrong: int
) -> None:
    assert len(wrong_closes(rig(*hurt), crowd(close), since=0.0)) == wrong
    assert wrong_closes(rig(*hurt), crowd(close), since=21.0) == []


def test_attempts_that_fail_to_open_are_no_closed_sessions() -> None:
    death = Closed(1006, "", 20.0)
    assert wrong_closes(rig(("node-1", 19.9, 21.0)), crowd(death, Closed(1006, "", 40.0)), since=0.0) == []


def test_a_refused_route_is_wrong_unless_that_lookup_was_struck_and_going_back_always_is() -> None:
    asked = Asked(failures=[(20.0, "503")])
    prober = cast(Any, SimpleNamespace(asked={"http://one": asked}))
    assert len(wrong_answers(rig(), prober, 0.0)) == 1
    assert wrong_answers(rig(("http://one", 19.0, 21.0)), prober, 0.0) == []
    asked.backwards.append("(1, 3) -> (1, 2)")
    assert len(wrong_answers(rig(("http://one", 19.0, 21.0)), prober, 0.0)) == 1


def test_the_totals_are_one_line() -> None:
    rounds = [Round("a", 1.0, agreed_s=0.1), Round("b", 1.0, agreed_s=6.0, violations=["apart"])]
    assert totals(rounds).startswith("2 strikes, 1 violations; from healing to agreement: median 6.00 s")
