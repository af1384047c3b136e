"""The guards between what ZooKeeper shows and what the ring says: pure functions of document, nodes, probes, and now.

A ring change closes sessions, so the publisher does not believe every twitch. In the order they are applied:

    frozen      not connected: nothing is known, nothing changes
    join        a node enters when it has been active for a while; a flapping one after a longer quiet time
    drain       a draining node leaves the ring at once
    mass_loss   when many are missing together, ZooKeeper or the network is the more likely cause: each is asked
                itself, and only those that fail twice leave; the operator may overrule
    unproven    the same for any that is missing while ZooKeeper, or this publisher, is new to the cluster
    never_empty the last active members stay, dead or not, until somebody can take their place
    debounce    changes that come together are one epoch
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ringway.core.members import Member, NodeRecord, RingDocument, State

from .guard_state import Batch, GuardOptions, GuardState, Track, observe, quiet_s

__all__ = ["VERDICTS", "Decision", "GuardOptions", "GuardState", "ProbeRequest", "Verdict", "decide"]

# All that they can say: guard and action.
VERDICTS = (
    ("frozen", "keep"), ("join", "wait"), ("join", "admit"), ("flapping", "exclude"), ("drain", "remove"),
    ("leave", "remove"), ("mass_loss", "hold"), ("unproven", "hold"), ("unproven", "keep"), ("never_empty", "admit"),
    ("never_empty", "keep"), ("debounce", "wait"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard decided about a node ("" = all), and why. `alarm`: an operator should look."""

    guard: str
    action: str
    node: str
    reason: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Ask this node whether it lives, and give the answer to `GuardState.probed`."""

    node: str
    http: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Attributes:
        members: publish a document with these; None: nothing to publish (yet).
        lost: how many members that document takes out because they are missing; for `GuardState.published`.
        state: to be given to the next `decide`.
        verdicts: what each guard says at present.
        probes: to be asked now.
        wake_at: when to decide again at the latest, though nothing is seen to happen; infinite: no need.
    """

    members: tuple[Member, ...] | None
    lost: int
    state: GuardState
    verdicts: tuple[Verdict, ...]
    probes: tuple[ProbeRequest, ...] = ()
    wake_at: float = math.inf


def decide(
    state: GuardState,
    document: RingDocument | None,
    observed: Mapping[str, NodeRecord] | None,
    options: GuardOptions,
    now: float,
) -> Decision:
    """One look at the world.

    Args:
        document: the ring now in force, if there is one.
        observed: every node's record, or None while they cannot be read.
        now: seconds, monotonic.
    """
    if observed is None:
        frozen = Verdict("frozen", "keep", "", "ZooKeeper cannot be read, so the ring stays as it is", alarm=True)
        return Decision(None, 0, replace(state, batch=None), (frozen,))
    look = _Look(observe(state, observed, options, now), document, observed, options, now)
    look.admit_and_drain()
    look.weigh_losses()
    look.never_empty()
    return look.debounced()


class _Look:
    """The work of one `decide`: collects the members wanted, the verdicts, and the next time to look."""

    def __init__(
        self,
        state: GuardState,
        document: RingDocument | None,
        observed: Mapping[str, NodeRecord],
        options: GuardOptions,
        now: float,
    ) -> None:
        self.state, self.document, self.observed, self.options, self.now = state, document, observed, options, now
        self.current = {m.id: m for m in document.members} if document else {}
        self.serving = {m.id for m in document.active} if document else set()
        self.wanted: dict[str, Member] = {}
        self.waiting: list[NodeRecord] = []
        self.verdicts: list[Verdict] = []
        self.probes: list[ProbeRequest] = []
        self.lost = 0
        self.wake_at = math.inf

    # --- join, flapping, drain

    def admit_and_drain(self) -> None:
        for node_id, record in self.observed.items():
            if record.state is State.DRAINING:
                self._drain(record)
            elif record.state is State.ACTIVE and self._may_serve(record, self.state.tracks[node_id]):
                self.wanted[node_id] = record.member()

    def _drain(self, record: NodeRecord) -> None:
        if record.id in self.current:  # stays listed, without points, until it is gone
            self.wanted[record.id] = record.member()
        if record.id in self.serving:
            self._say("drain", "remove", record.id, "it is draining")

    def _may_serve(self, record: NodeRecord, track: Track) -> bool:
        if track.excluded:
            self.waiting.append(record)
            since = track.ready_since if track.ready_since is not None else self.now
            self._look_again(since + quiet_s(track, self.options))
            reason = f"it left {len(track.leaves)} times; out until it is stable for {quiet_s(track, self.options):g} s"
            self._say("flapping", "exclude", record.id, reason, alarm=True)
            return False
        if record.id in self.serving:
            return True
        return self._ready(record, track)

    def _ready(self, record: NodeRecord, track: Track) -> bool:
        since = track.ready_since if track.ready_since is not None else self.now
        if self.now - since >= self.options.join_delay_s:
            self._say("join", "admit", record.id, f"it has been ready for {self.options.join_delay_s:g} s")
            return True
        self.waiting.append(record)
        self._look_again(since + self.options.join_delay_s)
        self._say("join", "wait", record.id, f"it must be ready for {self.options.join_delay_s:g} s")
        return False

    # --- losses

    def weigh_losses(self) -> None:
        missing = sorted(node_id for node_id in self.serving if not self._serves(node_id))
        if not missing:
            self.state = replace(self.state, accept_losses=False)
        mass = self._is_mass(len(missing))
        for node_id in missing:
            track = self._track(node_id)
            if self._is_held(track, mass):
                self._hold(node_id, replace(track, held=True), mass)
            else:
                self._let_go(node_id, track)

    def _serves(self, node_id: str) -> bool:
        """Whether a member is where it should be. A draining one is; one that starts anew (joining) is not."""
        record = self.observed.get(node_id)
        return record is not None and record.state is not State.JOINING

    def _is_mass(self, missing: int) -> bool:
        lost = missing + len(self.state.losses)
        stable = len(self.serving) + len(self.state.losses)
        return lost > max(1.0, self.options.loss_fraction * stable)

    def _is_unproven(self) -> bool:
        return self.now < self.state.unproven_until

    def _is_held(self, track: Track, mass: bool) -> bool:
        if self.state.accept_losses or track.failures >= self.options.probe_failures:
            return False
        return track.held or mass or self._is_unproven()

    def _track(self, node_id: str) -> Track:
        """What is known of a missing member; a new publisher knows only what the document says."""
        found = self.state.tracks.get(node_id)
        if found is not None:
            return found
        member = self.current[node_id]
        return Track(NodeRecord(member.id, member.url, member.http, member.vnodes, member.state, boot_id=""), False)

    def _let_go(self, node_id: str, track: Track) -> None:
        reason = f"it is gone and failed {track.failures} probes" if track.failures else "it is gone"
        if self.state.accept_losses:
            reason = "it is gone, and the operator said so"
        self._say("leave", "remove", node_id, reason)
        self.lost += 1

    def _hold(self, node_id: str, track: Track, mass: bool) -> None:
        self.wanted[node_id] = self.current[node_id]
        again = self.options.probe_retry_s if track.failures else self.options.probe_recheck_s
        if self.now - track.probed_at >= again:
            track = replace(track, probed_at=self.now)
            self.probes.append(ProbeRequest(node_id, track.record.http, track.record.boot_id))
        self.state = self.state.with_track(node_id, track)
        self._look_again(track.probed_at + again)
        until = "kept until it fails its probes, returns, or the operator says that it is dead"
        if mass:
            self._say("mass_loss", "hold", node_id, f"too many are missing at once: {until}", alarm=True)
        elif self._is_unproven():
            self._say("unproven", "hold", node_id, "it is missing, which proves little so early: it is asked itself")
        else:
            self._say("unproven", "keep", node_id, f"it is missing but answers: {until}", alarm=True)

    # --- never empty

    def never_empty(self) -> None:
        if any(m.state is State.ACTIVE for m in self.wanted.values()):
            return
        steady = [r for r in self.waiting if not self.state.tracks[r.id].excluded]
        for record in steady or self.waiting:  # rather one that is new, or flapping, than nobody
            self.wanted[record.id] = record.member()
            self._say("never_empty", "admit", record.id, "nobody else is there")
        if not self.waiting and self.serving:
            self.wanted, self.lost = dict(self.current), 0
            self.verdicts = [v for v in self.verdicts if v.action != "remove"]
            self._say("never_empty", "keep", "", "no member is left: the last ring stays in force", alarm=True)

    # --- debounce

    def debounced(self) -> Decision:
        members = tuple(sorted(self.wanted.values(), key=lambda m: m.id))
        if members == (self.document.members if self.document else ()):
            return self._decision(None, replace(self.state, batch=None))
        batch = self._batch(members)
        due = min(batch.changed_at + self.options.debounce_s, batch.since + self.options.debounce_max_s)
        if self.now >= due:
            return self._decision(members, replace(self.state, batch=batch))
        self._look_again(due)
        self._say("debounce", "wait", "", "changes are being collected for one epoch")
        return self._decision(None, replace(self.state, batch=batch))

    def _batch(self, members: tuple[Member, ...]) -> Batch:
        batch = self.state.batch
        if batch is None:
            return Batch(self.now, self.now, members)
        return batch if batch.members == members else Batch(batch.since, self.now, members)

    def _decision(self, members: tuple[Member, ...] | None, state: GuardState) -> Decision:
        return Decision(members, self.lost, state, tuple(self.verdicts), tuple(self.probes), self.wake_at)

    def _say(self, guard: str, action: str, node: str, reason: str, *, alarm: bool = False) -> None:
        self.verdicts.append(Verdict(guard, action, node, reason, alarm))

    def _look_again(self, at: float) -> None:
        self.wake_at = min(self.wake_at, at)
