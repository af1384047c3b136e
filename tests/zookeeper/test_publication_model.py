"""How rings are published, read and obeyed, under every order of faults that hypothesis can think of.

The parts are the real ones: Publisher, Election, NodesView, the guards and version rules, RingReader, RingHistory,
NodeRegistration, and the node's admission; only ZooKeeper (model_zookeeper.py), Redis and time are models.
A publisher's pass can be broken at each of its calls by a crash, a lost connection, an expired session, a wipe,
another publisher.

What must hold after every step:

- numbers: each document published is numbered later than every one before it, so there is one for each (gen, epoch);
- monotonic: what a process goes by never goes back, and was published as it stands;
- never empty: every document has an active member;
- admission: a node accepts no session that a document it has read gives to another, at least as new as the ticket's;
- moves: the arcs of a change name exactly the users whose owner changed;
- and when all faults are healed, all parts come to the same document, and so does its copy in Redis.

Assumed: a process start and ZooKeeper's loss take at least a second, and clocks agree to that.

`make model` takes at least 100,000 steps, and says every 10,000 how far it is.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from kazoo.exceptions import BadVersionError, NoNodeError

from ringway.core.errors import DocumentError, Unavailable
from ringway.core.hashing import hashing
from ringway.core.history import Change, RingHistory, RingView
from ringway.core.members import RingDocument, State, Version
from ringway.core.tickets import Ticket
from ringway.lookup_service.orders import accept_losses
from ringway.lookup_service.publisher import Publisher
from ringway.lookup_service.ring_copy import RingCopy
from ringway.ws_server import admission
from ringway.ws_server.admission import Admission, Verdict
from ringway.zookeeper.guards import GuardOptions
from ringway.zookeeper.membership import NodeRegistration
from ringway.zookeeper.ring_document import Election, Fenced, RingReader
from tests.zookeeper.help import ALG, KEYS, document, member, record
from tests.zookeeper.model_zookeeper import ModelServer, ModelSession, Tree

HASHING = hashing(ALG)
RULES_PER_RUN = 20
SOAK_STEPS, SAY_EVERY = 100_000, 10_000
COMMON: dict[str, Any] = {
    "stateful_step_count": RULES_PER_RUN, "deadline": None, "database": None,
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip
settings.register_profile("soak", max_examples=3000, **COMMON)
settings.register_profile("model", max_examples=150, derandomize=True, **COMMON)
IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

NODES = ("a", "b", "c", "d")
UIDS = tuple(f"user-{number}" for number in range(12))
QUICK = GuardOptions(
    debounce_s=0.0, join_delay_s=1.0, loss_window_s=20.0, flap_leaves=8, flap_quiet_s=5.0, flap_max_s=20.0
)  # fmt: skip
NODE_EVENTS = ("up", "down", "restart", "drain", "active", "weight")
WORK = (
    "quiet", "quiet", "publish", "publish", "read", "all_read", "all_read", "read_the_copy", "route", "route", "arrive",
    "arrive", "time", "node", "node", "ghosts_expire", "accept_losses",
)  # fmt: skip
FAULTS = (
    "crash", "disconnect", "expire", "lag", "wipe", "back_up", "restore", "redis_away", "redis_lost", "foreign_hand",
    "forged_copy",
)  # fmt: skip
NUMBERS = st.sampled_from(range(24))  # integers() likes 0 too well
FAULTS_OF_A_PASS = ("crash", "disconnect", "expire", "expire and other", "wipe", "wipe and other", "node", "redis")
MOMENTS = (*range(10), "commit", "commit", "after commit", "after commit")
done: Counter[str] = Counter()  # what the runs came to, for the asserts and the eye


class Crash(BaseException):
    """The process is killed here. No `except Exception` of the code under test may catch it."""


class ModelMirror:
    """Redis: never goes back; may be away; may lose what it has, or have it from a stranger."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.version = (0, 0)
        self.away = self.forged = False

    def store(self, data: bytes, gen: int, epoch: int) -> bool:
        self._answer()
        if (gen, epoch) <= self.version:
            return False
        self.data, self.version, self.forged = data, (gen, epoch), False
        return True

    def discard(self, data: bytes) -> bool:
        self._answer()
        done["copies discarded"] += 1
        if data != self.data:
            return False
        self.lose()
        return True

    def lose(self) -> None:
        self.data, self.version, self.forged = None, (0, 0), False

    def forge(self, data: bytes, version: Version) -> None:
        self.data, self.version, self.forged = data, version, True

    def load(self) -> bytes | None:
        self._answer()
        return self.data

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("Redis")


class Part:
    """A process that goes by the ring: a session, a reader, a history."""

    def __init__(self, model: PublicationModel) -> None:
        self.model = model
        self.zk = cast(Any, ModelSession(model.server))  # it is used as a ZooKeeper
        self.history = RingHistory(HASHING)
        self.reader = RingReader(self.zk, KEYS, self.apply)

    @property
    def view(self) -> RingView | None:
        return self.history.current

    @property
    def document(self) -> RingDocument | None:
        return self.view.document if self.view else None

    def apply(self, document: RingDocument) -> None:
        before = self.history.version
        change = self.history.apply(document)
        self.model.check_read(before, self.history.version, document)
        if change is not None:
            self.changed(change)

    def changed(self, change: Change) -> None:
        """Something to do for a node."""

    def read(self, *, latest: bool) -> None:
        try:
            if latest:
                self.reader._read_latest()
            else:
                self.reader._step()
        except Unavailable:
            return


class Lookup(Part):
    """A lookup process: it answers routes, and publishes when it is elected."""

    def __init__(self, model: PublicationModel) -> None:
        super().__init__(model)
        self.publisher = Publisher(
            self.zk, model.mirror, KEYS, HASHING, QUICK,
            probe=model.probe, memory=lambda: self.document, wall=lambda: model.wall, clock=lambda: model.now,
        )  # fmt: skip

    def route(self, uid: str) -> Ticket | None:
        if self.view is None:
            return None
        owner = self.view.owner(uid).id
        return Ticket(uid, owner, self.view.version, 0.0, "jti", (), "route")


class Node(Part):
    """A node: it accepts sessions by its own ring."""

    def __init__(self, model: PublicationModel, name: str, boot: int) -> None:
        super().__init__(model)
        self.name = name
        self.sessions: dict[str, tuple[Ticket, Verdict]] = {}
        started = record(name, vnodes=4, boot=f"boot{boot}")
        self.registration = NodeRegistration(self.zk, started, probe=lambda *_: False)
        self.registration._try()

    def arrive(self, ticket: Ticket) -> Verdict:
        judged = admission.admit(ticket, self.view, me=self.name)
        if judged.verdict is Verdict.REFRESH:
            self.read(latest=True)
            judged = admission.admit(ticket, self.view, me=self.name, refreshed=True)
        done[judged.verdict.value] += 1
        if judged.verdict in (Verdict.ACCEPT, Verdict.PROVISIONAL):
            self.model.check_accepted(self, ticket)
            self.sessions[ticket.uid] = (ticket, judged.verdict)
        return judged.verdict

    def changed(self, change: Change) -> None:
        self.model.check_arcs(change)
        for uid in self.moved(change):
            done["moved"] += 1
            del self.sessions[uid]

    def moved(self, change: Change) -> list[str]:
        """Sessions that go: their arc moved, or they were let in for a ring that has now come and says otherwise."""
        gone = []
        for uid, (ticket, verdict) in self.sessions.items():
            if verdict is Verdict.ACCEPT:
                position = HASHING.key(uid)
                if any(arc.old == self.name and arc.contains(position) for arc in change.arcs):
                    gone.append(uid)
            elif admission.admit(ticket, change.new, me=self.name, refreshed=True).verdict is Verdict.REDIRECT:
                gone.append(uid)
        return gone


class PublicationModel(RuleBasedStateMachine):
    """Two lookups, four nodes, one ZooKeeper, one Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.wall = 100.0, 1_800_000_000.0
        self.violations: list[str] = []
        self.published: dict[Version, str] = {}
        self.newest: RingDocument | None = None
        self.foreign_hand = False
        self.server = ModelServer(self._on_ring)
        self.mirror = ModelMirror()
        self.backup: Tree = {}
        self.ghosts: list[int] = []
        self.boots = 0
        self.nodes = {name: self._start(name) for name in NODES[:3]}
        self.lookups = [Lookup(self), Lookup(self)]
        self.tickets: list[Ticket] = []
        self.do_quiet(0)

    # --- what must hold

    def violated(self, what: str) -> None:
        """Note it, for `nothing_is_violated`: raised here, the code under test might catch it."""
        self.violations.append(what)

    @invariant()
    def nothing_is_violated(self) -> None:
        assert not self.violations

    def _on_ring(self, data: bytes) -> None:
        """ZooKeeper has a new ring znode."""
        if self.foreign_hand:
            return
        new = RingDocument.parse(data, KEYS)
        if self.newest is not None and new.version <= self.newest.version:
            self.violated(f"{new.version} was published after {self.newest.version}")
        if not new.active:
            self.violated(f"{new.version} has no active member")
        self.newest = new
        self.published[new.version] = new.checksum
        done["documents"] += 1

    def check_read(self, before: Version | None, after: Version | None, document: RingDocument) -> None:
        if before is not None and (after is None or after < before):
            self.violated(f"a reader went back from {before} to {after}")
        if after == document.version and self.published.get(document.version) != document.checksum:
            self.violated(f"a reader goes by {document.version}, which was never published like that")

    def check_accepted(self, node: Node, ticket: Ticket) -> None:
        view = node.view
        if view is not None and view.version >= ticket.version and view.owner(ticket.uid).id != node.name:
            self.violated(f"{node.name} accepted {ticket.uid}, whom {view.version} gives to another")

    def check_arcs(self, change: Change) -> None:
        if change.old is None:
            return
        for uid in UIDS:
            by_arcs = any(arc.contains(HASHING.key(uid)) for arc in change.arcs)
            if by_arcs is not (change.old.owner(uid) != change.new.owner(uid) and _owners_differ(change, uid)):
                self.violated(f"the arcs from {change.old.version} to {change.new.version} are wrong about {uid}")

    @invariant()
    def no_two_documents_of_one_number_were_ever_read(self) -> None:
        for part in self.parts():
            if part.reader.alarms["conflict"]:
                self.violated("a reader has seen two documents of one number")

    # --- what is done: few rules, because hypothesis leaves some out of each run, and that must not be half of the work

    def step(self) -> None:
        """Count it, and say so now and then where that takes minutes."""
        done["steps"] += 1
        if IS_SOAK and done["steps"] % SAY_EVERY == 0:
            print(f"{done['steps']} steps, {done['documents']} documents", flush=True)

    @rule(todo=st.lists(st.tuples(st.sampled_from(WORK), NUMBERS), min_size=4, max_size=10))
    def work(self, todo: list[tuple[str, int]]) -> None:
        for what, number in todo:
            self.step()
            getattr(self, f"do_{what}")(number)
            assert not self.violations

    @rule(what=st.sampled_from(FAULTS), number=NUMBERS)
    def fault(self, what: str, number: int) -> None:
        self.step()
        getattr(self, f"fail_{what}")(number)

    @rule(who=st.integers(0, 1), what=st.sampled_from(FAULTS_OF_A_PASS), at=st.sampled_from(MOMENTS))
    def broken_pass(self, who: int, what: str, at: int | str) -> None:
        """A publisher's pass, with a fault at one of its calls."""
        self.step()
        calls = itertools.count()

        def before_call(name: str) -> None:
            if at in (name, next(calls)):
                self._fail_a_pass(what, who)

        self._pass(who, before_call)

    def _pass(self, who: int, before_call: Callable[[str], object] = lambda _: None) -> None:
        """One pass of a publisher, after which it may be another process."""
        lookup = self.lookups[who]
        lookup.zk.before_call = before_call
        try:
            lookup.publisher._step()
        except Unavailable:
            done["passes cut short"] += 1
        except Crash:
            self._crash(who)
        finally:
            lookup.zk.before_call = lambda _: None

    def _fail_a_pass(self, what: str, who: int) -> None:
        lookup = self.lookups[who]
        if what == "crash":
            raise Crash
        if what == "disconnect":
            lookup.zk.reachable = False
        elif what.startswith("expire"):
            self.server.expire(lookup.zk._session)
        elif what == "node":
            self._change_node("d", "up" if "d" not in self.nodes else "down")
        elif what == "redis":
            self.fail_redis_away(0)
        if "wipe" in what:
            self.fail_wipe(0)
        if "other" in what:
            self.lookups[1 - who].zk.reconnect()
            self._pass(1 - who)
            self._pass(1 - who)
            lookup.zk.reconnect()  # the pass goes on, and does not know that its session is another

    def _crash(self, who: int) -> None:
        """Killed, and started again; its session lives on for a while."""
        self.wall += 1.0
        self.ghosts.append(self.lookups[who].zk._session)
        self.lookups[who] = Lookup(self)

    # --- work

    def parts(self) -> list[Part]:
        return [*self.lookups, *self.nodes.values()]

    def some(self, number: int) -> Part:
        parts = self.parts()
        return parts[number % len(parts)]

    def do_quiet(self, number: int) -> None:
        """All are connected and publish; without it, faults would come so thick that nothing is ever published."""
        for part in self.parts():
            part.zk.reconnect()
        for node in self.nodes.values():
            node.registration._try()
        for turn in range(1 + number % 3):
            self.do_time(2)
            self._pass((number + turn) % 2)

    def do_publish(self, number: int) -> None:
        self._pass(number % 2)

    def do_read(self, number: int) -> None:
        self.some(number).read(latest=number % 2 == 0)

    def do_all_read(self, number: int) -> None:
        """All but one or two."""
        for index, part in enumerate(self.parts()):
            if index not in (number % 8, number % 9):
                part.read(latest=True)

    def do_read_the_copy(self, number: int) -> None:
        if self.mirror.data is not None and not self.mirror.away:
            try:
                self.some(number).apply(RingDocument.parse(self.mirror.data, KEYS))
            except DocumentError as error:
                if not self.mirror.forged:
                    self.violated(str(error))

    def do_route(self, number: int) -> None:
        self.tickets += filter(None, map(self.lookups[number % 2].route, UIDS))
        del self.tickets[:-60]

    def do_arrive(self, number: int) -> None:
        for _ in range(min(len(self.tickets), 1 + number % 12)):
            ticket = self.tickets.pop(number % len(self.tickets))
            if ticket.node in self.nodes:
                self.nodes[ticket.node].arrive(ticket)

    def do_time(self, number: int) -> None:
        seconds = (0.5, 1.0, 2.0, 10.0)[number % 4]
        self.now += seconds
        self.wall += seconds

    def do_node(self, number: int) -> None:
        self._change_node(NODES[number % 4], NODE_EVENTS[number // 4 % len(NODE_EVENTS)])

    def do_ghosts_expire(self, _number: int) -> None:
        while self.ghosts:
            self.server.expire(self.ghosts.pop())

    def do_accept_losses(self, number: int) -> None:
        zk = self.lookups[number % 2].zk
        if zk.connected:
            accept_losses(zk)

    def _change_node(self, name: str, event: str) -> None:
        node = self.nodes.get(name)
        if event in ("up", "restart"):
            if node is not None and event == "restart":
                self.ghosts.append(node.zk._session)  # its znode is a ghost's now
            self.nodes[name] = self._start(name) if node is None or event == "restart" else node
        elif node is not None and event == "down":
            self.server.expire(node.zk._session)
            del self.nodes[name]
        elif node is not None and event == "weight":
            node.registration.update(record(name, vnodes=4 + self.boots % 3, boot=node.registration.record.boot_id))
        elif node is not None:
            node.registration.set_state(State.DRAINING if event == "drain" else State.ACTIVE)

    def _start(self, name: str) -> Node:
        self.boots += 1
        return Node(self, name, self.boots)

    def probe(self, http: str, _boot_id: str) -> bool:
        return any(node.registration.record.http == http for node in self.nodes.values())

    # --- faults

    def fail_crash(self, number: int) -> None:
        self._crash(number % 2)

    def fail_disconnect(self, number: int) -> None:
        self.some(number).zk.reachable = False

    def fail_expire(self, number: int) -> None:
        self.server.expire(self.some(number).zk._session)

    def fail_lag(self, number: int) -> None:
        self.some(number).zk.lag = number // 6 % 8

    def fail_wipe(self, _number: int) -> None:
        self.wall += 1.0
        self.server.wipe()

    def fail_back_up(self, _number: int) -> None:
        self.backup = self.server.tree

    def fail_restore(self, _number: int) -> None:
        self.wall += 1.0
        self.server.restore(self.backup)

    def fail_redis_away(self, _number: int) -> None:
        self.mirror.away = not self.mirror.away

    def fail_redis_lost(self, _number: int) -> None:
        self.mirror.lose()

    def fail_forged_copy(self, number: int) -> None:
        """Somebody writes into Redis what does not verify, under a number that keeps every real document out."""
        evil = document(self.newest.gen + 1 + number if self.newest else 1, 99, [member("evil")])
        self.mirror.forge(evil.to_bytes().replace(evil.mac.encode(), b""), evil.version)

    def fail_foreign_hand(self, number: int) -> None:
        """Somebody writes into the ring znode: nonsense, a document without a signature, one of earlier."""
        if "ring" not in self.server.tree:
            return
        evil = document(self.newest.gen + 1 if self.newest else 1, 99, [member("evil")])
        unsigned = evil.to_bytes().replace(evil.mac.encode(), b"")
        earlier = self.backup["ring"].data if "ring" in self.backup else b""
        self.wall += 1.0
        self.foreign_hand = True
        self.server.commit([("set", "ring", (b"nonsense", unsigned, earlier)[number % 3], -1)], 0)
        self.foreign_hand = False

    # --- and in the end

    def teardown(self) -> None:
        """Heal everything: all parts must come to one document, the one that stands in ZooKeeper."""
        if self.violations:
            return
        self.mirror.away = False
        for part in self.parts():
            part.zk.lag = 0
        for name in NODES:
            self._change_node(name, "up")
        for turn in range(12):
            self.do_ghosts_expire(0)
            self.do_quiet(turn)
            for name in NODES:
                self._change_node(name, "active")
            for part in self.parts():
                part.read(latest=True)
        views = {(part.document.version, part.document.checksum) if part.document else None for part in self.parts()}
        assert views == {(self.newest.version, self.newest.checksum) if self.newest else None}
        if self.newest is not None and self.mirror.data != self.newest.to_bytes():
            self.violated(f"the copy in Redis is not {self.newest.version}, but {self.mirror.version}")
        assert not self.violations


def _owners_differ(change: Change, uid: str) -> bool:
    assert change.old is not None
    return change.old.owner(uid).id != change.new.owner(uid).id


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Faults are logged, and here they are all there is."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(900 if IS_SOAK else 120)
def test_the_protocol_holds() -> None:
    done.clear()
    profile = settings.get_profile("soak" if IS_SOAK else "model")
    run_state_machine_as_test(PublicationModel, settings=profile)
    first = random.SystemRandom().randrange(10**9) if IS_SOAK else 0
    print(f"walks from seed {first}")
    walk_all(3000 if IS_SOAK else 150, first)
    print(dict(done))
    assert done["steps"] >= (SOAK_STEPS if IS_SOAK else 1000)
    # Runs in which nothing happens would prove nothing.
    assert all(done[what] for what in ("documents", "moved", "accept", "redirect", "provisional"))


def epoch_only(last: RingDocument | None, wall_s: float) -> Version:
    """The obvious number for who begins: the last one that anybody remembers, plus one."""
    return Version(last.gen, last.epoch + 1) if last else Version(int(wall_s), 1)


def unfenced(election: Election, data: bytes, expected_version: int) -> None:
    """Compare-and-set alone, without the proof that the session which won lives."""
    try:
        election._zk.commit(lambda transaction: transaction.set_data(election._ring, data, expected_version))
    except (NoNodeError, BadVersionError) as error:
        raise Fenced(type(error).__name__) from error


def never_keep(look: Any) -> None:
    """Publish a ring of nobody, if nobody is seen."""


def apply_any(history: RingHistory, document: RingDocument) -> Change | None:
    """Whatever comes last is right."""
    history.current = None if history.current and document.version < history.current.version else history.current
    return REAL_APPLY(history, document)


def trust_the_ticket(ticket: Ticket, view: RingView | None, *, me: str, refreshed: bool = False) -> Admission:
    """A ticket that names this node is good enough."""
    return Admission(Verdict.ACCEPT)


REAL_APPLY = RingHistory.apply


def believe_the_copy(copy: RingCopy, new: RingDocument) -> None:
    """What stands in Redis under a higher number will be right."""
    copy._mirror.store(new.to_bytes(), new.gen, new.epoch)


BROKEN: dict[str, dict[str, Any]] = {
    "no gen of its own for a term": {"ringway.lookup_service.publisher.first_version": epoch_only},
    "no fence": {"ringway.zookeeper.ring_document.Election.publish": unfenced},
    "empty rings": {"ringway.zookeeper.guards._Look.never_empty": never_keep},
    "the last word is right": {
        "ringway.core.history.RingHistory.apply": apply_any,
        "ringway.zookeeper.ring_document.RingReader._check_order": lambda _reader, _document: None,
    },
    "a forged copy stays": {"ringway.lookup_service.ring_copy.RingCopy._store": believe_the_copy},
    "the ticket is right": {"ringway.ws_server.admission.admit": trust_the_ticket},
}


def walk(seed: int) -> None:
    """One run by dice: hypothesis tries variations of few runs first, dice find a rare order of faults sooner."""
    dice = random.Random(seed)
    model = PublicationModel()
    for _ in range(RULES_PER_RUN):
        kind = dice.randrange(10)
        if kind < 5:
            model.work(todo=[(dice.choice(WORK), dice.randrange(24)) for _ in range(6)])
        elif kind < 7:
            model.fault(what=dice.choice(FAULTS), number=dice.randrange(24))
        else:
            model.broken_pass(who=dice.randrange(2), what=dice.choice(FAULTS_OF_A_PASS), at=dice.choice(MOMENTS))
        model.no_two_documents_of_one_number_were_ever_read()
        model.nothing_is_violated()
    model.teardown()


def walk_all(runs: int, first: int = 0) -> None:
    for seed in range(first, first + runs):
        walk(seed)


@pytest.mark.parametrize("patches", BROKEN.values(), ids=BROKEN)
def test_a_broken_variant_is_caught(patches: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for target, broken in patches.items():
        monkeypatch.setattr(target, broken)
    done.clear()
    with pytest.raises(AssertionError, match="violations") as caught:
        walk_all(1000)
    print(f"after {done['steps']} steps: {str(caught.value).splitlines()[0]}")
