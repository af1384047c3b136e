"""Who flaps is known to the next publisher too, whose clock is another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ringway.core.errors import DocumentCorrupt, DocumentError, DocumentForged
from ringway.core.keys import KeyRing
from ringway.zookeeper.flap_memory import parse, remembered, to_bytes
from ringway.zookeeper.guard_state import GuardOptions, GuardState, Track
from tests.zookeeper.help import KEYS, record
from tests.zookeeper.test_guards import World, flap, ten

OPTIONS = GuardOptions()
WALL = 1_800_000_000.0
STRANGER = KeyRing.parse("x:a-secret-that-nobody-here-holds")
FLAPPING = {"a": Track(record("a", boot="b7"), leaves=(100.0, 150.0), strikes=2, excluded=True)}


def handed_over(world: World, *, later_s: float = 1.0, now: float = 5.0) -> World:
    """A new publisher's world, some seconds later, by its own monotonic clock."""
    data = to_bytes(remembered(world.state.tracks, OPTIONS, world.now), KEYS, world.now, WALL)
    new = World()
    new.nodes, new.document, new.now = world.nodes, world.document, now
    new.state = GuardState(tracks=parse(data, KEYS, OPTIONS, now, WALL + later_s))
    new.look()
    return new


def test_an_excluded_node_stays_out_under_the_next_publisher_until_that_has_seen_it_stable() -> None:
    world = ten()
    flap(world, "n0", 5)
    new = handed_over(world)
    assert new.after(OPTIONS.flap_quiet_s - 1.0).ring == {f"n{i}" for i in range(1, 10)}
    assert ("flapping", "exclude", "n0") in new.said
    assert "n0" in new.after(2.0).ring


def test_leaves_under_two_publishers_add_up() -> None:
    world = ten()
    flap(world, "n0", 3)
    new = handed_over(world, now=1e6)
    flap(new, "n0", 1)
    assert "n0" in new.ring
    flap(new, "n0", 1)
    assert "n0" not in new.ring


def test_an_exclusion_under_the_next_publisher_lasts_twice_as_long() -> None:
    world = ten()
    flap(world, "n0", 5)
    new = handed_over(world.after(OPTIONS.flap_quiet_s))
    assert "n0" in new.ring
    flap(new, "n0", 5)
    assert "n0" not in new.after(2 * OPTIONS.flap_quiet_s - 27.0).ring
    assert "n0" in new.after(3.0).ring


def test_one_that_has_been_started_again_since_is_not_taken_for_dead() -> None:
    """Its boot id is another by now, and a probe goes by it."""
    assert remembered(FLAPPING, OPTIONS, 160.0)["a"].record.boot_id == ""


def test_only_what_the_guard_needs_is_kept() -> None:
    world = ten()
    flap(world, "n0", 1)
    assert remembered(world.state.tracks, OPTIONS, world.now).keys() == {"n0"}
    assert remembered(world.state.tracks, OPTIONS, world.now + OPTIONS.flap_window_s) == {}


def test_a_clock_that_is_ahead_puts_no_leave_into_the_future() -> None:
    data = to_bytes(FLAPPING, KEYS, 160.0, WALL + 1000.0)
    assert parse(data, KEYS, OPTIONS, 160.0, WALL)["a"].leaves == (160.0, 160.0)


def test_an_exclusion_that_is_past_cannot_be_put_back() -> None:
    data = to_bytes(FLAPPING, KEYS, 160.0, WALL)
    assert parse(data, KEYS, OPTIONS, 0.0, WALL + OPTIONS.flap_max_s + 1.0) == {}


def changed(data: bytes) -> bytes:
    raw = json.loads(data)
    raw["nodes"]["b"] = raw["nodes"]["a"]
    return json.dumps(raw).encode()


GOOD = to_bytes(FLAPPING, KEYS, 160.0, WALL)
UNREADABLE = to_bytes({"a": replace(FLAPPING["a"], record=replace(record("a"), vnodes=-1))}, KEYS, 160.0, WALL)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"nonsense", DocumentCorrupt), (b"[]", DocumentCorrupt), (b"{}", DocumentCorrupt),
        (changed(GOOD), DocumentForged), (to_bytes(FLAPPING, STRANGER, 160.0, WALL), DocumentForged),
        (UNREADABLE, DocumentCorrupt),
    ],
)  # fmt: skip
def test_what_does_not_verify_is_refused(data: bytes, error: type[DocumentError]) -> None:
    with pytest.raises(error):
        parse(data, KEYS, OPTIONS, 160.0, WALL)
