"""The connection policy: the shared scenarios, and what holds for every sequence of events."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ringway.client_sdk.events import (
    EVENTS,
    Action,
    Adopt,
    Close,
    Connect,
    Drop,
    Event,
    LookupFailed,
    Lost,
    Move,
    Resolve,
    Routed,
    Start,
    Stop,
    Timer,
    Wait,
    Welcome,
)
from ringway.client_sdk.machine import MAX_HOPS, TRANSITIONS, IllegalEvent, Machine, State, step, with_ticket

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "machine.json").read_text())
CODES = st.sampled_from([1000, 1001, 1006, 1011, 3333, 4000, 4001, 4009, 4100, 4101, 4200, 4202, 4300, 4302, 4999])
REASONS = st.sampled_from(["", "x", '{"w":3000,"e":4}', '{"w":0,"e":9}'])


def event(raw: dict[str, Any]) -> Event:
    fields = dict(raw)
    return EVENTS[fields.pop("on")](**fields)


@pytest.mark.parametrize("scenario", VECTORS, ids=lambda scenario: scenario["name"])
def test_scenario(scenario: dict[str, Any]) -> None:
    machine = Machine(lookups=scenario["lookups"])
    for number, wanted in enumerate(scenario["steps"]):
        machine, actions = step(machine, event(wanted["event"]), wanted["now"], lambda: scenario["random"])
        assert str(machine.state) == wanted["state"], f"step {number}"
        got = [{"do": action.do, **asdict(action)} for action in actions]
        assert got == [pytest.approx(action) if action["do"] == "wait" else action for action in wanted["actions"]]


def test_the_scenarios_walk_every_transition_of_the_table() -> None:
    walked = set()
    for scenario in VECTORS:
        machine = Machine(lookups=scenario["lookups"])
        for wanted in scenario["steps"]:
            before = machine.state
            machine, _ = step(machine, event(wanted["event"]), wanted["now"], lambda s=scenario: s["random"])
            walked.add((str(before), wanted["event"]["on"], str(machine.state)))
    table = {(state, on, after) for state, ons in TRANSITIONS.items() for on, afters in ons.items() for after in afters}
    assert table <= walked


def test_an_event_that_the_state_does_not_know_raises_and_changes_nothing() -> None:
    machine = Machine()
    closed, _ = step(machine, Close(), 0, lambda: 0.5)
    with pytest.raises(IllegalEvent, match="start while closed"):
        step(closed, Start(), 0, lambda: 0.5)
    resolving, _ = step(machine, Start(), 0, lambda: 0.5)
    with pytest.raises(IllegalEvent, match="welcome while resolving"):
        step(resolving, Welcome(1, "n1", 7, 1), 0, lambda: 0.5)


def test_the_table_knows_every_state() -> None:
    assert set(TRANSITIONS) == {str(state) for state in State}


@pytest.mark.parametrize(("url", "wanted"), [
    ("ws://n1/ws?ticket=a.b-c_d", "ws://n1/ws?ticket=NEW"),
    ("wss://n1:1/ws?x=1&ticket=a&y=2", "wss://n1:1/ws?x=1&ticket=NEW&y=2"),
])
def test_a_resume_ticket_takes_the_place_of_the_spent_one(url: str, wanted: str) -> None:
    assert with_ticket(url, "NEW") == wanted


class AnyOrder(RuleBasedStateMachine):
    """A world that answers in any order, and late: what was asked for may be answered long after it is forgotten."""

    @initialize(lookups=st.integers(1, 3))
    def begin(self, lookups: int) -> None:
        self.machine = Machine(lookups=lookups)
        self.now = 0.0
        self.asked: list[Resolve | Connect | Wait] = []
        self.sockets: set[int] = set()  # stamps of connections open or opening, as a front end has them
        self.closed = False

    def feed(self, happened: Event) -> None:
        before = self.machine
        self.machine, actions = step(before, happened, self.now, lambda: 0.999)
        if self.closed:
            assert not actions
            assert self.machine == before
        if isinstance(happened, Lost):
            self.sockets.discard(happened.stamp)
        for action in actions:
            self._carry_out(action)
        self.closed = self.machine.state is State.CLOSED

    def _carry_out(self, action: Action) -> None:
        match action:
            case Connect():
                self.sockets.add(action.stamp)
                self.asked.append(action)
            case Resolve():
                assert action.lookup < self.machine.lookups
                self.asked.append(action)
            case Wait():
                assert 0 <= action.delay_s <= 40
                self.asked.append(action)
            case Drop():
                self.sockets.discard(action.stamp)
            case Adopt():
                assert action.stamp in self.sockets
            case Stop():
                assert self.machine.state is State.CLOSED

    @precondition(lambda self: self.machine.state is State.IDLE)
    @rule()
    def start(self) -> None:
        self.feed(Start())

    @rule(data=st.data(), gen=st.integers(7, 8), epoch=st.integers(0, 9), node=st.sampled_from(["n1", "n2"]))
    def good_answer(self, data: st.DataObject, gen: int, epoch: int, node: str) -> None:
        if not self.asked:
            return
        asked = data.draw(st.sampled_from(self.asked[-4:]))
        url = f"ws://{node}/ws?ticket=t"
        match asked:
            case Resolve():
                after = data.draw(st.sampled_from([0, 500]))
                self.feed(Routed(asked.stamp, url, node, gen, epoch, after))
            case Connect():
                self.feed(Welcome(asked.stamp, node, gen, epoch, data.draw(st.sampled_from(["", "r"]))))
            case Wait():
                self.feed(Timer(asked.stamp))

    @rule(data=st.data(), code=CODES, reason=REASONS, status=st.sampled_from([0, 400, 401, 429, 500, 503]))
    def bad_answer(self, data: st.DataObject, code: int, reason: str, status: int) -> None:
        if not self.asked:
            return
        asked = data.draw(st.sampled_from(self.asked[-4:]))
        match asked:
            case Resolve():
                self.feed(LookupFailed(asked.stamp, status, data.draw(st.sampled_from([0.0, 3.0]))))
            case Connect():
                self.feed(Lost(asked.stamp, code, reason))

    @precondition(lambda self: self.machine.live)
    @rule(epoch=st.integers(0, 9))
    def move(self, epoch: int) -> None:
        self.feed(Move(self.machine.live, "ws://n3/ws?ticket=m", 8, epoch))

    @precondition(lambda self: self.machine.live)
    @rule(code=CODES, reason=REASONS)
    def lose(self, code: int, reason: str) -> None:
        self.feed(Lost(self.machine.live, code, reason))

    @rule(seconds=st.sampled_from([0.1, 4.9, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(dice=st.integers(0, 9))
    def close(self, dice: int) -> None:
        if not dice:
            self.feed(Close())

    @invariant()
    def one_attempt_and_at_most_one_connection(self) -> None:
        machine = self.machine
        known = {stamp for stamp in (machine.live, machine.attempt) if stamp}
        assert self.sockets <= known, "a connection is open that the machine has forgotten"
        both = machine.live and machine.attempt
        assert not both or machine.state is State.MOVING
        assert bool(machine.live) == (machine.state in (State.OPEN, State.MOVING))

    @invariant()
    def something_is_under_way_or_it_rests_for_a_reason(self) -> None:
        resting = self.machine.state in (State.IDLE, State.OPEN, State.CLOSED)
        assert resting != bool(self.machine.attempt)

    @invariant()
    def hops_are_bounded(self) -> None:
        if self.machine.hops > MAX_HOPS:
            assert self.machine.failures

    def teardown(self) -> None:
        """Left to a world in which everything works, it opens or has stopped."""
        for _ in range(8):
            machine = self.machine
            match machine.state:
                case State.IDLE:
                    self.feed(Start())
                case State.OPEN | State.CLOSED:
                    break
                case _ if machine.step is State.RESOLVING:
                    self.feed(Routed(machine.attempt, "ws://n9/ws?ticket=t", "n9", 8, 99))
                case _ if machine.step is State.CONNECTING:
                    self.feed(Welcome(machine.attempt, "n9", 8, 99))
                case _:
                    self.feed(Timer(machine.attempt))
        assert self.machine.state in (State.OPEN, State.CLOSED)


TestAnyOrder = AnyOrder.TestCase
