"""The loop that every lookup process runs, and one of them in earnest: from the nodes' znodes to the ring document.

    nodes -> guards -> document -> ZooKeeper (compare-and-set, fenced) -> mirror in Redis

The pass looks at everything again each time: election, ring znode, nodes. What stands in ZooKeeper decides; what is
known from elsewhere is used where a publisher begins, and where ZooKeeper has lost or aged its data.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf

from ringway.core.errors import DocumentError
from ringway.core.hashing import Hashing
from ringway.core.keys import KeyRing
from ringway.core.members import Member, NodeRecord, RingDocument, Version
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.guards import Decision, GuardOptions, GuardState, Verdict, decide
from ringway.zookeeper.nodes_view import NodesView
from ringway.zookeeper.probe import Probe, livez
from ringway.zookeeper.ring_document import Election, Fenced, session_name
from ringway.zookeeper.runtime import Loop
from ringway.zookeeper.version_rules import first_version, is_lost, newest, next_version, same, wait_s

from .flaps import Flaps
from .orders import losses_accepted
from .probing import Probing
from .publisher_status import GuardLog, PublisherStatus
from .ring_copy import Mirror, RingCopy

log = logging.getLogger(__name__)

RECONCILE_S = 30.0


class Publisher:
    """Runs from `start` to `stop`, in a task of the ZooKeeper object's kind.

    Args:
        mirror: the copy in Redis; its failures are logged and made good later, they never stop a publication.
        memory: the newest document that the rest of this process goes by, if any.
        probe: asks a node whether it lives; may block.
        wall, clock: unix seconds; monotonic seconds.
    """

    def __init__(
        self,
        zk: ZooKeeper,
        mirror: Mirror,
        keys: KeyRing,
        hashing: Hashing,
        options: GuardOptions | None = None,
        *,
        probe: Probe = livez,
        memory: Callable[[], RingDocument | None] = lambda: None,
        info: bytes = b"{}",
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alarms: Counter[str] = Counter()
        self._guards = GuardLog()
        self._zk, self._keys, self._hashing = zk, keys, hashing
        self._options = options or GuardOptions()
        self._memory, self._wall, self._clock = memory, wall, clock
        self._loop = Loop(zk, "publishing the ring", self._step)
        self._election = Election(zk, info)
        self._nodes = NodesView(zk, self._loop.wake)
        self._copy = RingCopy(mirror, self._verified, self._failed_copy, zk.runtime)
        self._flaps = Flaps(zk, self._election, keys, self._options, self._forged_flaps, wall, clock)
        self._probing = Probing(zk.runtime, probe, self._loop.wake)
        self._known: RingDocument | None = None
        self._observed: Mapping[str, NodeRecord] = {}
        self._term: str | None = None
        self._state = GuardState()
        self._forget()

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """Stop publishing, and let another process take over at once if the session lives on."""
        self._loop.stop()
        self._term = None
        if self._zk.connected:
            self._zk.runtime.guard(self._election.resign, log, "resigning")

    def status(self) -> PublisherStatus:
        elected = self._is_elected()
        verdicts = self._frozen() if self._term and not self._zk.connected else self._guards.standing
        age_s = self._zk.disconnected_for(time.monotonic())
        nodes = Counter(record.state.value for record in self._observed.values() if elected)
        alarms, decisions = self.alarms + self._nodes.counts, dict(self._guards.decisions)
        known = newest(self._memory(), self._known)
        return PublisherStatus(elected, known, age_s, verdicts, nodes, alarms, decisions)

    def _is_elected(self) -> bool:
        """Not while we are cut off: another is elected by then, and there must not be two who say that they publish."""
        session = self._zk.session_id if self._zk.connected else None
        return session is not None and self._term == session_name(session)

    # --- one pass

    def _step(self) -> float:
        if not self._zk.connected:
            if self._term:
                self._guards.tell(self._frozen())
            return RECONCILE_S
        if not self._campaign():
            return RECONCILE_S
        standing, znode_version = self._standing()
        if not self._stands(standing):
            return self._take_office()
        self._known = standing
        self._reconcile()
        self._copy.flush(self._clock())
        decision = self._decide(standing)
        if decision.members is not None:
            version = next_version(self._known) if self._known else first_version(None, self._wall())
            if self._publish(decision.members, version, znode_version):
                self._state = self._state.published(decision.lost, self._clock())
            return 0.0
        self._flaps.keep(self._state)
        return max(0.0, min(RECONCILE_S, min(decision.wake_at, self._copy.due_at) - self._clock()))

    def _frozen(self) -> tuple[Verdict, ...]:
        """What the guards say while ZooKeeper cannot be asked. The watches' end, at a disconnect, wakes the loop."""
        return decide(self._state, self._known, None, self._options, self._clock()).verdicts

    def _campaign(self) -> bool:
        """Whether this process is elected. Another session is another term, even where nobody else came between."""
        elected = self._election.campaign(self._loop.wake)
        if self._term != self._election.term:
            log.info("this process publishes the ring now" if elected else "another process publishes the ring now")
            self._term = self._election.term
            self._forget()
        return elected

    def _forget(self) -> None:
        """Begin as a new publisher would: another may have been in office meanwhile."""
        self._in_office = False
        self._attempt: RingDocument | None = None
        self._state = self._unproven(GuardState())
        self._guards.standing = ()
        self._copy.forget()
        self._flaps.forget()
        self._reconciled_at = -inf
        self._nodes.forget()

    def _standing(self) -> tuple[RingDocument | None, int]:
        """The document in ZooKeeper, None unless it verifies, and the version of its znode."""
        data, version = self._election.read(self._loop.wake)
        return self._verified(data, "ZooKeeper") if data else None, version

    def _forged_flaps(self) -> None:
        self.alarms["flapping"] += 1

    def _failed_copy(self) -> None:
        self.alarms["mirror"] += 1

    def _verified(self, data: bytes, where: str) -> RingDocument | None:
        try:
            return RingDocument.parse(data, self._keys)
        except DocumentError as error:
            self.alarms[type(error).__name__.removeprefix("Document").lower()] += 1
            log.error("ALARM: what stands in %s will be replaced: %s", where, error)
            return None

    def _take_office(self) -> float:
        """Publish the newest ring known from anywhere again, under a gen of our own.

        That is for a new term, for a ZooKeeper that lost the ring (wiped) or went back (restored), and for a newer
        document that came to light since. Who begins cannot know which numbers were given out last; a new gen is later
        than all of them. The members stay, so nobody moves; and for a while a missing znode proves little, since we
        have not seen it go.
        """
        self._zk.sync(self._zk.path("ring"))  # perhaps this server only lags
        standing, znode_version = self._standing()
        if self._stands(standing):
            return 0.0
        self._known = newest(self._known, self._memory(), self._copy.read(self._clock()), standing)
        if self._known is None:  # a new cluster: the guards make its first ring
            self._in_office = True
            return 0.0
        if (wait := wait_s(self._known, self._wall())) > 0.0:
            return wait
        self._tell_of_loss(self._known, standing)
        self._state = self._unproven(self._state)
        version = first_version(self._known, self._wall())
        self._in_office = self._publish(self._known.members, version, znode_version)
        return 0.0

    def _stands(self, standing: RingDocument | None) -> bool:
        """Whether we are in office, and what stands in ZooKeeper is ours and the newest.

        Where ZooKeeper was empty and Redis away when we took office, and our clock was behind, what we publish is
        older than what readers go by: they would ignore it for ever.
        """
        return self._in_office and self._is_ours(standing) and not self._is_behind(standing)

    def _is_behind(self, standing: RingDocument | None) -> bool:
        newer = newest(self._memory(), self._copy.read(self._clock()))
        return newer is not None and (standing is None or standing.version < newer.version)

    def _is_ours(self, standing: RingDocument | None) -> bool:
        """Whether what stands in ZooKeeper is what this term published last, or tried to, without an answer."""
        if same(standing, self._known):
            return True
        return self._attempt is not None and same(standing, self._attempt)

    def _tell_of_loss(self, known: RingDocument, standing: RingDocument | None) -> None:
        if is_lost(known, standing):
            self.alarms["lost"] += 1
            log.error("ALARM: ZooKeeper has %s, but %s was published: publishing its members again",
                      standing.version if standing else "no ring", known.version)
        if known.alg != self._hashing.name:
            self.alarms["alg"] += 1
            log.error("ALARM: the ring used %s, this process is set to %s: everybody's owner changes",
                      known.alg, self._hashing.name)

    def _unproven(self, state: GuardState) -> GuardState:
        return replace(state, unproven_until=self._clock() + self._options.loss_window_s)

    # --- the guards

    def _decide(self, standing: RingDocument | None) -> Decision:
        if losses_accepted(self._zk, self._loop.wake):
            self._state = replace(self._state, accept_losses=True)
        for node_id, alive in self._probing.answers():
            self._state = self._state.probed(node_id, alive)
        self._state = self._flaps.restored(self._state)
        self._observed = self._nodes.read()
        decision = decide(self._state, standing, self._observed, self._options, self._clock())
        self._state = decision.state
        self._guards.tell(decision.verdicts)
        self._probing.ask(decision.probes)
        return decision

    def _reconcile(self) -> None:
        """Now and then, read every node again, in case an event was lost, and copy the ring, in case Redis lost it."""
        now = self._clock()
        if now - self._reconciled_at >= RECONCILE_S:
            self._reconciled_at = now
            self._copy.wanted = self._known
            self._nodes.forget()

    # --- publishing

    def _publish(self, members: tuple[Member, ...], version: Version, znode_version: int) -> bool:
        """Returns whether it was published. Raises Unavailable where nobody knows."""
        document = RingDocument.sign(version=version, alg=self._hashing.name, members=members, keys=self._keys)
        self._attempt = document
        try:
            self._election.publish(document.to_bytes(), znode_version)
        except Fenced as error:
            self.alarms["fenced"] += 1
            log.warning("ring %s was refused: %s", version, error)
            return False
        log.info("published ring %s: %s", version, _difference(self._known, document))
        self._known = self._copy.wanted = document
        self._copy.flush(self._clock())
        return True


def _difference(old: RingDocument | None, new: RingDocument) -> str:
    before, after = old.weights if old else {}, new.weights
    joined, left = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    reweighted = sorted(n for n in after.keys() & before.keys() if after[n] != before[n])
    changes = [*(f"+{n}" for n in joined), *(f"-{n}" for n in left), *(f"~{n}" for n in reweighted)]
    return f"{len(after)} active" + (f" ({' '.join(changes)})" if changes else ", nobody moves")
