"""The soak's judgement: which closes are wrong, and which a gain, a return, a drain or a death explains; its clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import soak
from bench.soak import Round, Watch, totals
from bench.soak_faults import QUIET_S, Fault, Strike
from bench.soak_judge import RingLog, let_in, wrong_answers, wrong_closes
from bench.soak_rig import Rig
from tests.harness.agreement import Asked
from tests.harness.clients import Closed, Opened, PlainClient
from tests.harness.waiting import wait_until

NOTHING = cast(Any, None)
ALWAYS = (0.0, 1000.0)


def rig(*hurt: tuple[str, float, float], drained: tuple[str, float, float] | None = None) -> Rig:
    spans = [drained] if drained else []
    return Rig(NOTHING, NOTHING, NOTHING, NOTHING, hurt=list(hurt), drained=spans)


def crowd(*closes: Closed) -> Any:
    client = PlainClient("alice", opened=[Opened("node-1", 3, 10.0)], closed=list(closes))
    return [client]


@pytest.mark.parametrize(
    ("close", "hurt", "gains", "wrong"),
    [
        (Closed(4200, "", 20.0), [], [19.0], 1),
        (Closed(1006, "", 20.0), [], [19.0], 1),
        (Closed(1006, "", 20.0), [("node-1", 19.9, 25.0)], [], 0),
        (Closed(1006, "", 20.0), [("node-2", 19.9, 25.0)], [], 1),
        (Closed(1006, "", 20.0), [("node-1", 12.0, 15.0)], [], 1),
        (Closed(4300, "", 20.0), [], [], 1),
        (Closed(4300, "", 20.0), [], [17.0], 0),
        (Closed(4300, "", 20.0), [], [4.0], 1),
        (Closed(4300, "", 20.0), [], [22.0], 1),
        (Closed(4300, "", 20.0), [("node-2", 10.0, 12.0)], [], 0),  # its users go home from node-1
        (Closed(4300, "", 20.0), [("http://lookup", 10.0, 12.0)], [], 1),
        (Closed(4301, "", 20.0), [], [17.0], 1),
    ],
)
def test_only_a_gain_a_return_or_its_own_nodes_death_may_close_a_session(
    close: Closed, hurt: list[tuple[str, float, float]], gains: list[float], wrong: int
) -> None:
    assert len(wrong_closes(rig(*hurt), gains, crowd(close), ALWAYS)) == wrong
    assert wrong_closes(rig(*hurt), gains, crowd(close), (20.0, 1000.0)) == []
    assert wrong_closes(rig(*hurt), gains, crowd(close), (0.0, 19.0)) == []


def test_the_time_that_a_node_stood_still_does_not_count() -> None:
    at, close = rig(), Closed(4300, "", 40.0)
    at.frozen.append(("node-1", 21.0, 39.0))
    assert wrong_closes(at, [20.0], crowd(close), ALWAYS) == []
    assert len(wrong_closes(at, [5.0], crowd(close), ALWAYS)) == 1
    at.frozen[0] = ("node-2", 21.0, 39.0)
    (said,) = wrong_closes(at, [20.0], crowd(close), ALWAYS)
    assert "node-1 closed 1 sessions with 4300" in said
    assert "20.0 s after the last ring" in said


def test_only_its_own_nodes_drain_may_close_a_session_for_draining() -> None:
    close = Closed(4301, "", 20.0)
    assert wrong_closes(rig(drained=("node-1", 15.0, 21.0)), [], crowd(close), ALWAYS) == []
    assert len(wrong_closes(rig(drained=("node-2", 15.0, 21.0)), [], crowd(close), ALWAYS)) == 1


def test_attempts_that_fail_to_open_are_no_closed_sessions() -> None:
    death = Closed(1006, "", 20.0)
    hurt = rig(("node-1", 19.9, 21.0))
    assert wrong_closes(hurt, [], crowd(death, Closed(1006, "", 40.0)), ALWAYS) == []


def document(epoch: int, **vnodes: int) -> dict[str, Any]:
    members = [{"id": name, "vnodes": count, "state": "active"} for name, count in vnodes.items() if count]
    members += [{"id": name, "vnodes": 256, "state": "draining"} for name, count in vnodes.items() if not count]
    return {"gen": 1, "epoch": epoch, "members": members}


def log_of(*documents: dict[str, Any]) -> RingLog:
    log = RingLog(NOTHING)
    for at, each in enumerate(documents):
        log.heed(each, float(at))
    return log


def test_a_ring_that_gives_a_node_more_is_a_gain_and_one_that_takes_is_none() -> None:
    log = log_of(document(1, a=256, b=256), document(2, a=256), document(3, a=256, b=256), document(2, c=256),
                 document(4, a=512, b=256), document(5, a=256, b=0))  # fmt: skip
    assert log.gains() == [2.0, 4.0]


def test_a_flapping_node_must_not_be_on_the_ring_until_it_was_quiet() -> None:
    kept_in = log_of(document(1, a=256, b=256))
    assert let_in(kept_in, [("b", 10.0)]) == ["b was on the ring although it flaps"]
    log = RingLog(NOTHING)
    for at, each in ((0.0, document(1, a=256, b=256)), (11.0, document(2, a=256))):
        log.heed(each, at)
    assert let_in(log, [("b", 10.0)]) == []
    log.heed(document(3, a=256, b=256), 10.0 + QUIET_S)
    assert let_in(log, [("b", 10.0)]) == []
    assert len(let_in(log, [("b", 14.0)])) == 1


def test_a_refused_route_is_wrong_unless_that_lookup_was_struck_and_going_back_always_is() -> None:
    asked = Asked(failures=[(20.0, "503")])
    prober = cast(Any, SimpleNamespace(asked={"http://one": asked}))
    assert len(wrong_answers(rig(), prober, 0.0)) == 1
    assert wrong_answers(rig(("http://one", 19.0, 21.0)), prober, 0.0) == []
    asked.backwards.append("(1, 3) -> (1, 2)")
    assert len(wrong_answers(rig(("http://one", 19.0, 21.0)), prober, 0.0)) == 1


def test_the_clock_starts_at_the_healing_though_what_was_killed_has_yet_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = threading.Event()

    def kill(_rig: Rig, _chance: random.Random) -> Iterator[None]:
        yield
        started.wait(10)

    strike = Strike(NOTHING, [Fault("killed", "node", kill)], random.Random(1))
    since = wait_until(lambda: strike.healed_at, 5.0)
    assert since is not None
    monkeypatch.setattr(soak, "agreed", lambda _cluster: (1, 1, "c"))
    looking = Watch(NOTHING, since)
    looking.look(complete=strike.over)
    assert looking.agreed_s is None, "it is not up again, so those who agree are not all"
    started.set()
    strike.end()
    looking.look(complete=strike.over)
    assert looking.agreed_s == pytest.approx(time.monotonic() - since, abs=0.5)
    assert looking.ring == (1, 1, "c")


def test_an_error_of_a_fault_is_the_soaks() -> None:
    def fail(_rig: Rig, _chance: random.Random) -> Iterator[None]:
        yield
        raise ZeroDivisionError

    strike = Strike(NOTHING, [Fault("fails", "node", fail)], random.Random(1))
    with pytest.raises(ZeroDivisionError):
        strike.end()


def test_the_totals_are_one_line() -> None:
    rounds = [Round("a", 1.0, agreed_s=0.1), Round("b", 1.0, agreed_s=6.0, violations=["apart"])]
    assert totals(rounds).startswith("2 strikes, 1 violations; from healing to agreement: median 6.00 s")
