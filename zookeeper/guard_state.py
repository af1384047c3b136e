"""What the publisher's guards remember between two looks at the nodes. `now` is seconds of a monotonic clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ringway.core.members import Member, NodeRecord, State


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """The guards' settings; all times in seconds. The defaults and their models: docs/operations.md."""

    debounce_s: float = 0.3
    debounce_max_s: float = 1.5
    join_delay_s: float = 2.0
    loss_fraction: float = 0.3
    loss_window_s: float = 60.0
    probe_failures: int = 2
    probe_retry_s: float = 0.5
    probe_recheck_s: float = 5.0
    flap_leaves: int = 5
    flap_window_s: float = 300.0
    flap_quiet_s: float = 120.0
    flap_max_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Track:
    """One node: its last record and what it did.

    Attributes:
        present: whether its znode was there at the last look.
        ready_since: since when it is ACTIVE without a break, by the same start of the process; None while it is not.
        leaves: when it left, inside the flapping window.
        strikes: how often it was excluded for flapping; each doubles the quiet time that it has to show.
        excluded: whether it is out for flapping now.
        held: missing, but kept in the ring until probes or the operator say that it is dead.
        failures: failed probes in a row since it is held.
        probed_at: when the last probe was asked for.
    """

    record: NodeRecord
    present: bool = True
    ready_since: float | None = None
    leaves: tuple[float, ...] = ()
    strikes: int = 0
    excluded: bool = False
    held: bool = False
    failures: int = 0
    probed_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that wait for each other, to be published as one epoch."""

    since: float
    changed_at: float
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class GuardState:
    """Everything the guards remember.

    Attributes:
        losses: when each member was taken out because it was missing, inside the mass-loss window.
        unproven_until: until then a missing znode proves nothing (ZooKeeper lost its data, or this publisher has
            only just begun), so each is probed.
        accept_losses: the operator said that what is missing is dead.
    """

    tracks: Mapping[str, Track] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    unproven_until: float = -math.inf
    accept_losses: bool = False
    batch: Batch | None = None

    def with_track(self, node_id: str, track: Track) -> GuardState:
        return replace(self, tracks={**self.tracks, node_id: track})

    def probed(self, node_id: str, alive: bool) -> GuardState:
        """Take in a probe's answer."""
        track = self.tracks.get(node_id)
        if track is None:
            return self
        return self.with_track(node_id, replace(track, failures=0 if alive else track.failures + 1))

    def published(self, lost: int, now: float) -> GuardState:
        """Note that the batch is published, and took out `lost` members that were missing."""
        return replace(self, batch=None, accept_losses=False, losses=self.losses + (now,) * lost)


def observe(state: GuardState, observed: Mapping[str, NodeRecord], options: GuardOptions, now: float) -> GuardState:
    """Take in a look at the znodes of all nodes."""
    tracks = {
        node_id: _seen(state.tracks.get(node_id), observed[node_id], options, now)
        if node_id in observed
        else _missed(state.tracks[node_id], options, now)
        for node_id in {**state.tracks, **observed}
    }
    kept = {node_id: track for node_id, track in tracks.items() if not _forgettable(track, options, now)}
    recent = tuple(t for t in state.losses if now - t < options.loss_window_s)
    return replace(state, tracks=kept, losses=recent)


def quiet_s(track: Track, options: GuardOptions) -> float:
    """Seconds without a break that an excluded node has to show: doubled with each exclusion, up to a limit."""
    return float(min(options.flap_quiet_s * 2.0 ** (track.strikes - 1), options.flap_max_s))


def _seen(track: Track | None, record: NodeRecord, options: GuardOptions, now: float) -> Track:
    if track is None:
        return Track(record, ready_since=now if record.state is State.ACTIVE else None)
    if track.present and track.record.boot_id != record.boot_id:  # killed and started again inside its session time-out
        track = _left(track, options, now)
    since = track.ready_since if track.ready_since is not None else now
    ready_since = since if record.state is State.ACTIVE else None
    track = replace(track, record=record, present=True, ready_since=ready_since)
    if record.state is not State.JOINING:  # a joining one is still missing where it served
        track = replace(track, held=False, failures=0)
    return _forgiven(track, options, now)


def _missed(track: Track, options: GuardOptions, now: float) -> Track:
    return replace(_left(track, options, now), present=False) if track.present else track


def _left(track: Track, options: GuardOptions, now: float) -> Track:
    leaves = (*(t for t in track.leaves if now - t < options.flap_window_s), now)
    track = replace(track, leaves=leaves, ready_since=None)
    if len(leaves) >= options.flap_leaves and not track.excluded:
        return replace(track, excluded=True, strikes=track.strikes + 1)
    return track


def _forgiven(track: Track, options: GuardOptions, now: float) -> Track:
    """Let an excluded node in again after its quiet time; forget its strikes after the longest one on top of it."""
    quiet = now - track.ready_since if track.ready_since is not None else 0.0
    if track.excluded and quiet >= quiet_s(track, options):
        return replace(track, excluded=False, leaves=())
    if track.strikes and not track.excluded and quiet >= quiet_s(track, options) + options.flap_max_s:
        return replace(track, strikes=0)
    return track


def _forgettable(track: Track, options: GuardOptions, now: float) -> bool:
    """Gone for so long that nothing follows from it any more."""
    if track.present or track.held:
        return False
    return not track.leaves or now - track.leaves[-1] > options.flap_max_s
