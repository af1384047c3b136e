"""The guards as a table: what is observed when, and what is published then. No clock, no ZooKeeper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from ringway.core.members import NodeRecord, RingDocument, State
from ringway.zookeeper.guards import VERDICTS, Decision, GuardOptions, GuardState, decide
from tests.zookeeper.help import document, member, record

OPTIONS = GuardOptions()
SETTLED = OPTIONS.debounce_s  # after this long without a change a batch is due


class World:
    """A publisher's loop without a publisher: looks, publishes at once what is decided, remembers."""

    def __init__(self, members: Iterable[str] = (), options: GuardOptions = OPTIONS) -> None:
        self.options = options
        self.now = 1000.0
        self.state = GuardState()
        self.nodes: dict[str, NodeRecord] = {name: record(name) for name in members}
        self.document: RingDocument | None = document(1, 1, map(member, members)) if self.nodes else None
        self.last: Decision
        self.look()

    @property
    def ring(self) -> set[str]:
        return set(self.document.weights) if self.document else set()

    @property
    def epoch(self) -> int:
        return self.document.epoch if self.document else 0

    @property
    def said(self) -> set[tuple[str, str, str]]:
        return {(v.guard, v.action, v.node) for v in self.last.verdicts}

    @property
    def alarms(self) -> set[str]:
        return {v.guard for v in self.last.verdicts if v.alarm}

    def look(self, *, connected: bool = True) -> Decision:
        observed: Mapping[str, NodeRecord] | None = self.nodes if connected else None
        self.last = decide(self.state, self.document, observed, self.options, self.now)
        self.state = self.last.state
        assert {(v.guard, v.action) for v in self.last.verdicts} <= set(VERDICTS)
        if self.last.members is not None:
            self.document = document(1, self.epoch + 1, self.last.members)
            self.state = self.state.published(self.last.lost, self.now)
        return self.last

    def after(self, seconds: float, *, connected: bool = True) -> World:
        """Let time pass, looking as often as the decisions ask for."""
        end = self.now + seconds
        self.look(connected=connected)
        while self.last.wake_at < end:
            self.now = max(self.last.wake_at, self.now + 0.001)
            self.look(connected=connected)
        self.now = end
        self.look(connected=connected)
        return self

    def node(self, name: str, state: State = State.ACTIVE, *, boot: str = "b1", vnodes: int = 64) -> World:
        self.nodes[name] = record(name, state=state, boot=boot, vnodes=vnodes)
        return self

    def gone(self, *names: str) -> World:
        for name in names:
            self.nodes.pop(name, None)
        return self

    def probes_answer(self, alive: Iterable[str] = ()) -> set[str]:
        """Answer the probes asked for by the last look."""
        asked = {probe.node for probe in self.last.probes}
        for name in asked:
            self.state = self.state.probed(name, name in set(alive))
        return asked


def ten() -> World:
    return World([f"n{i}" for i in range(10)])


# --- frozen


def test_frozen_while_not_connected() -> None:
    world = World(["a", "b"])
    world.gone("a", "b").node("c").after(100.0, connected=False)
    assert (world.ring, world.epoch, world.alarms) == ({"a", "b"}, 1, {"frozen"})


def test_what_was_being_collected_is_weighed_anew_after_a_freeze() -> None:
    world = World(["a", "b", "c"])
    world.gone("c").look()
    world.after(10.0, connected=False)
    world.node("c").after(SETTLED)
    assert (world.ring, world.epoch) == ({"a", "b", "c"}, 1)


def test_what_was_being_collected_is_collected_anew_after_a_freeze() -> None:
    """The change is still there, and so may be more of it: it is not published in the first moment."""
    world = World(["a", "b", "c"])
    world.gone("c").look()
    world.after(10.0, connected=False)
    world.look()
    assert (world.ring, world.said) == ({"a", "b", "c"}, {("leave", "remove", "c"), ("debounce", "wait", "")})
    world.after(SETTLED)
    assert (world.ring, world.epoch) == ({"a", "b"}, 2)


# --- never empty


def test_the_last_member_stays_when_it_is_gone() -> None:
    world = World(["a"])
    world.gone("a").after(1000.0)
    assert (world.ring, world.epoch, world.alarms) == ({"a"}, 1, {"never_empty"})


@pytest.mark.parametrize("state", [State.DRAINING, State.JOINING])
def test_the_last_member_stays_when_it_drains_or_starts_anew(state: State) -> None:
    world = World(["a"])
    world.node("a", state).after(100.0)
    assert (world.ring, world.epoch) == ({"a"}, 1)


def test_the_first_one_who_comes_replaces_a_dead_ring_without_a_delay() -> None:
    world = World(["a"])
    world.gone("a").after(100.0)
    world.node("b").after(SETTLED)
    assert world.ring == {"b"}


def test_the_first_ring_of_a_cluster_waits_for_the_debounce_only() -> None:
    world = World()
    world.node("a").look()
    world.now += 0.2
    world.node("b").after(SETTLED)
    assert (world.ring, world.epoch) == ({"a", "b"}, 1)


def test_no_ring_is_published_before_anybody_is_active() -> None:
    world = World()
    world.node("a", State.JOINING).node("b", State.DRAINING).after(100.0)
    assert world.document is None


# --- debounce


def test_changes_that_come_together_are_one_epoch() -> None:
    world = World(["a", "b", "c", "d", "e"])
    world.gone("a").look()
    world.now += 0.2
    world.node("b", vnodes=128).look()
    assert world.epoch == 1
    world.after(SETTLED)
    assert (world.ring, world.epoch) == ({"b", "c", "d", "e"}, 2)


def test_a_stream_of_changes_is_published_every_one_and_a_half_seconds() -> None:
    world = ten()
    for step in range(30):  # 6 s of a change every 0.2 s
        world.node("n0", vnodes=100 + step).look()
        world.now += 0.2
    assert 4 <= world.epoch <= 5


def test_a_change_that_is_undone_meanwhile_is_no_epoch() -> None:
    world = World(["a", "b", "c"])
    world.gone("c").look()
    world.now += 0.2
    world.node("c").after(10.0)
    assert world.epoch == 1


def test_200_joins_in_a_burst_are_at_most_5_epochs() -> None:
    world = World(["a", "b", "c"])
    for number in range(200):  # over four seconds
        world.node(f"new{number}").after(0.02)
    world.after(10.0)
    assert len(world.ring) == 203
    assert world.epoch - 1 <= 5


# --- join


def test_a_node_joins_when_it_has_been_active_for_two_seconds() -> None:
    world = World(["a"])
    world.node("b", State.JOINING).after(60.0)
    assert world.ring == {"a"}
    world.node("b").after(1.9)
    assert world.ring == {"a"}
    assert ("join", "wait", "b") in world.said
    world.after(0.1 + SETTLED)
    assert world.ring == {"a", "b"}


def test_readiness_must_be_without_a_break_and_of_one_start() -> None:
    world = World(["a"])
    world.node("b").after(1.5)
    world.node("b", State.JOINING).look()
    world.node("b").after(1.5)
    assert world.ring == {"a"}
    world.node("b", boot="b2").after(1.5)  # killed, and started again before its session expired
    assert world.ring == {"a"}
    world.after(1.0)
    assert world.ring == {"a", "b"}


def test_a_weight_and_an_address_are_taken_over_at_once() -> None:
    world = World(["a", "b"])
    world.node("a", vnodes=512).after(SETTLED)
    assert world.document is not None
    assert world.document.weights == {"a": 512, "b": 64}


# --- leave, drain


def test_one_that_is_gone_leaves_after_the_debounce() -> None:
    world = World(["a", "b", "c"])
    world.gone("c").after(SETTLED)
    assert (world.ring, world.epoch) == ({"a", "b"}, 2)


def test_draining_leaves_the_ring_at_once_and_stays_listed_until_it_is_gone() -> None:
    world = World(["a", "b", "c"])
    world.node("c", State.DRAINING).after(SETTLED)
    assert world.ring == {"a", "b"}
    assert world.document is not None
    assert world.document.member("c") == member("c", state=State.DRAINING)
    world.gone("c").after(SETTLED)
    assert world.document.member("c") is None


def test_many_may_drain_at_once() -> None:
    world = ten()
    for number in range(8):
        world.node(f"n{number}", State.DRAINING)
    world.after(SETTLED)
    assert world.ring == {"n8", "n9"}
    assert not world.alarms


def test_one_that_stops_draining_joins_like_a_new_one() -> None:
    world = World(["a", "b"])
    world.node("b", State.DRAINING).after(SETTLED)
    world.node("b").after(1.9)
    assert world.ring == {"a"}
    world.after(1.0)
    assert world.ring == {"a", "b"}


# --- mass loss


@pytest.mark.parametrize(
    ("members", "lost", "held"),
    [(2, 1, False), (2, 2, True), (3, 1, False), (3, 2, True), (5, 1, False), (10, 3, False), (10, 4, True)],
)
def test_more_than_one_and_more_than_30_percent_is_a_mass_loss(members: int, lost: int, held: bool) -> None:
    world = World([f"n{i}" for i in range(members)])
    world.gone(*(f"n{i}" for i in range(lost))).look()
    assert ("mass_loss" in world.alarms) is held
    world.after(SETTLED)
    assert len(world.ring) == members - (0 if held else lost)


def test_losses_inside_a_minute_add_up() -> None:
    world = ten()
    for number in range(3):
        world.gone(f"n{number}").after(15.0)
    assert len(world.ring) == 7
    world.gone("n3").after(SETTLED)
    assert ("mass_loss", "hold", "n3") in world.said
    assert "n3" in world.ring


def test_losses_a_minute_apart_do_not() -> None:
    world = ten()
    for number in range(6):
        world.gone(f"n{number}").after(61.0)
    assert world.ring == {"n6", "n7", "n8", "n9"}


def test_in_a_mass_loss_those_that_fail_two_probes_leave_and_the_rest_stay() -> None:
    world = ten()
    world.gone(*(f"n{i}" for i in range(6))).look()
    alive = {"n0", "n1"}
    assert world.probes_answer(alive) == {f"n{i}" for i in range(6)}
    world.after(SETTLED)
    assert len(world.ring) == 10
    world.now += OPTIONS.probe_retry_s
    world.look()
    assert world.probes_answer(alive) == {"n2", "n3", "n4", "n5"}
    world.after(SETTLED)
    assert world.ring == alive | {"n6", "n7", "n8", "n9"}
    assert world.epoch == 2
    assert ("mass_loss", "hold", "n0") in world.said


def test_the_kept_are_probed_on_and_leave_when_they_die_later() -> None:
    world = ten()
    world.gone("n0", "n1", "n2", "n3").look()
    world.probes_answer({"n0", "n1", "n2", "n3"})
    world.after(200.0)
    assert len(world.ring) == 10
    for _ in range(2):
        world.now += OPTIONS.probe_recheck_s
        world.look()
        assert world.probes_answer() == {"n0", "n1", "n2", "n3"}
    world.after(SETTLED)
    assert len(world.ring) == 6


def test_the_held_are_asked_again_though_nothing_happens() -> None:
    world = ten()
    world.gone("n0", "n1", "n2", "n3").look()
    assert world.last.wake_at == world.now + OPTIONS.probe_recheck_s
    world.probes_answer()
    world.look()
    assert world.last.wake_at == world.now + OPTIONS.probe_retry_s


def test_a_probe_that_succeeds_between_two_failures_counts() -> None:
    world = ten()
    world.gone("n0", "n1", "n2", "n3").look()
    for answer in ([], ["n0"], []):
        world.probes_answer(answer)
        world.now += OPTIONS.probe_recheck_s
        world.look()
    world.after(SETTLED)
    assert "n0" in world.ring
    assert "n1" not in world.ring


def test_the_kept_are_members_again_when_they_return() -> None:
    world = ten()
    lost = [f"n{i}" for i in range(6)]
    world.gone(*lost).look()
    world.probes_answer(lost)
    world.after(20.0)
    for name in lost:
        world.node(name)
    world.after(20.0)
    assert (len(world.ring), world.epoch, world.alarms) == (10, 1, set())


def test_the_operator_may_say_that_they_are_dead() -> None:
    world = ten()
    lost = [f"n{i}" for i in range(6)]
    world.gone(*lost).look()
    world.probes_answer(lost)
    world.after(20.0)
    world.state = replace(world.state, accept_losses=True)
    world.after(SETTLED)
    assert len(world.ring) == 4
    assert world.state.accept_losses is False


def test_an_order_without_a_loss_is_forgotten() -> None:
    world = ten()
    world.state = replace(world.state, accept_losses=True)
    world.look()
    assert world.state.accept_losses is False


def test_a_new_publisher_holds_a_mass_loss_too() -> None:
    """It has not seen the lost ones itself: all it knows of them is the document."""
    world = ten()
    world.state = GuardState()
    world.gone(*(f"n{i}" for i in range(6))).after(SETTLED)
    assert len(world.ring) == 10
    assert "mass_loss" in world.alarms


def test_restarts_of_many_at_once_are_a_mass_loss_too() -> None:
    world = World(["a", "b", "c"])
    for name in ("a", "b"):
        world.node(name, State.JOINING, boot="b2")
    world.look()
    assert {probe.boot_id for probe in world.last.probes} == {"b2"}
    world.probes_answer({"a", "b"})
    world.after(3.0)
    assert (world.ring, world.epoch) == ({"a", "b", "c"}, 1)
    for name in ("a", "b"):
        world.node(name, boot="b2")
    world.after(3.0)
    assert (world.epoch, world.alarms) == (1, set())


def test_one_that_starts_anew_leaves_and_joins_again_when_it_is_ready() -> None:
    world = World(["a", "b", "c"])
    world.node("c", State.JOINING, boot="b2").after(SETTLED)
    assert world.ring == {"a", "b"}
    world.node("c", boot="b2").after(2.0 + SETTLED)
    assert world.ring == {"a", "b", "c"}


# --- unproven


def test_after_a_wipe_a_single_missing_one_is_asked_first() -> None:
    world = World(["a", "b"])
    world.state = replace(world.state, unproven_until=world.now + 60.0)
    world.gone("b").look()
    assert world.said >= {("unproven", "hold", "b")}
    assert not world.alarms
    world.probes_answer({"b"})
    world.after(100.0)
    assert world.ring == {"a", "b"}
    assert ("unproven", "keep", "b") in world.said
    assert world.alarms == {"unproven"}


def test_after_a_wipe_a_dead_one_leaves_after_two_probes() -> None:
    world = World(["a", "b"])
    world.state = replace(world.state, unproven_until=world.now + 60.0)
    world.gone("b").look()
    world.probes_answer()
    world.now += OPTIONS.probe_retry_s
    world.look()
    world.probes_answer()
    world.after(SETTLED)
    assert world.ring == {"a"}


# --- flapping


def flap(world: World, name: str, times: int, *, away_s: float = 5.0, there_s: float = 25.0) -> None:
    for _ in range(times):
        world.gone(name).after(away_s)
        world.node(name).after(there_s)


def test_five_leaves_in_five_minutes_keep_a_node_out_until_it_is_stable_for_two() -> None:
    world = ten()
    flap(world, "n0", 4)
    assert "n0" in world.ring
    flap(world, "n0", 1)
    assert "n0" not in world.ring
    assert ("flapping", "exclude", "n0") in world.said
    assert world.alarms == {"flapping"}
    world.after(OPTIONS.flap_quiet_s - 25.0 - 1.0)
    assert "n0" not in world.ring
    world.after(1.0 + SETTLED)
    assert "n0" in world.ring


def test_five_leaves_in_ten_minutes_are_none_of_our_business() -> None:
    world = ten()
    flap(world, "n0", 8, there_s=75.0)
    assert "n0" in world.ring


def test_a_break_starts_the_quiet_time_again() -> None:
    world = ten()
    flap(world, "n0", 5)
    world.after(80.0)
    world.gone("n0").look()
    world.node("n0").after(OPTIONS.flap_quiet_s - 1.0)
    assert "n0" not in world.ring
    world.after(1.0 + SETTLED)
    assert "n0" in world.ring


def test_the_quiet_time_doubles_up_to_half_an_hour_and_is_forgiven_after_one() -> None:
    world = ten()
    for expected in (120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0):
        flap(world, "n0", 5)
        assert "n0" not in world.ring
        world.after(expected - 25.0 - 1.0)
        assert "n0" not in world.ring
        world.after(1.0 + SETTLED)
        assert "n0" in world.ring
    world.after(OPTIONS.flap_max_s)
    assert world.state.tracks["n0"].strikes == 0


def test_restarts_too_quick_for_the_session_to_expire_count_as_leaves() -> None:
    world = ten()
    for start in range(5):
        world.node("n0", boot=f"start{start + 2}").after(10.0)
    assert "n0" not in world.ring


def test_rather_a_flapping_node_than_none() -> None:
    world = World(["a"], replace(OPTIONS, flap_leaves=1))
    world.gone("a").look()
    world.node("a", boot="b2", vnodes=128).after(SETTLED)
    assert world.document is not None
    assert world.document.weights == {"a": 128}


def test_rather_a_new_node_than_a_flapping_one() -> None:
    world = World(["a"], replace(OPTIONS, flap_leaves=1))
    world.gone("a").look()
    world.node("a", boot="b2").node("b").after(SETTLED)
    assert world.ring == {"b"}


def test_what_is_gone_for_long_is_forgotten() -> None:
    world = ten()
    world.gone("n0").after(2 * OPTIONS.flap_max_s)
    assert "n0" not in world.state.tracks
    assert len(world.state.tracks) == 9
