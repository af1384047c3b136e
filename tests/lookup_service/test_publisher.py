"""The publisher on a real ZooKeeper: what is published when, by whom, and what happens when something is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from ringway.core.errors import Unavailable
from ringway.core.hashing import hashing
from ringway.core.history import RingHistory
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument, State, Version
from ringway.lookup_service.orders import accept_losses
from ringway.lookup_service.publisher import Publisher
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.flap_memory import to_bytes
from ringway.zookeeper.guard_state import GuardOptions, Track
from ringway.zookeeper.membership import NodeRegistration
from ringway.zookeeper.nodes_view import _Entry
from ringway.zookeeper.ring_document import RingReader, session_name
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import expire_session
from tests.zookeeper.help import ALG, KEYS, devserver, document, member, new_cluster, record, session

WALL = 1_800_000_000
STRANGER = KeyRing.parse("x:an-unknown-secret-of-somebody")
QUICK = GuardOptions(debounce_s=0.05, debounce_max_s=0.2, join_delay_s=0.2, probe_retry_s=0.05, probe_recheck_s=0.1)


class FakeMirror:
    """What RingMirror does, without Redis: never goes back; `away` makes every call fail."""

    def __init__(self, standing: RingDocument | bytes | None = None) -> None:
        self.data = standing.to_bytes() if isinstance(standing, RingDocument) else standing
        self.version = (standing.gen, standing.epoch) if isinstance(standing, RingDocument) else (0, 0)
        self.away = False

    def store(self, data: bytes, gen: int, epoch: int) -> bool:
        self._answer()
        if (gen, epoch) <= self.version:
            return False
        self.data, self.version = data, (gen, epoch)
        return True

    def load(self) -> bytes | None:
        self._answer()
        return self.data

    def discard(self, data: bytes) -> bool:
        self._answer()
        if self.data != data:
            return False
        self.data, self.version = None, (0, 0)
        return True

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("Redis")

    @property
    def document(self) -> RingDocument | None:
        return RingDocument.parse(self.data, KEYS) if self.data else None


class World:
    """One cluster: a witness that has read every document, publishers and nodes that are always stopped."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self.address, self._stack = address, stack
        self.cluster = new_cluster()
        self.mirror = FakeMirror()
        self.wall = WALL + 0.5
        self.alive: set[str] = set()
        self.probed: list[str] = []
        self.seen: list[RingDocument] = []
        self.nodes: dict[str, NodeRegistration] = {}
        self.witness = self.session()
        self.history = RingHistory(hashing(ALG))
        self.reader = RingReader(self.witness, KEYS, self._witnessed)
        self.reader.start()
        stack.callback(self.reader.stop)

    def session(self) -> ZooKeeper:
        return self._stack.enter_context(session(self.address, self.cluster, timeout_s=1.0))

    def publisher(
        self, options: GuardOptions = QUICK, *, zk: ZooKeeper | None = None, alg: str = ALG, key: bytes | None = None,
        memory: Callable[[], RingDocument | None] = lambda: None,
    ) -> Publisher:  # fmt: skip
        publisher = Publisher(
            zk or self.session(), self.mirror, KEYS, hashing(alg, key), options,
            probe=self._probe, memory=memory, wall=lambda: self.wall,
        )  # fmt: skip
        publisher.start()
        self._stack.callback(publisher.stop)
        return publisher

    def node(self, name: str, state: State = State.ACTIVE, *, zk: ZooKeeper | None = None) -> NodeRegistration:
        node = NodeRegistration(zk or self.session(), record(name, state=state), probe=lambda *_: False)
        node.register()
        self._stack.callback(node.close)
        self.nodes[name] = node
        return node

    def ring(self) -> dict[str, int]:
        return self.seen[-1].weights if self.seen else {}

    def wait_ring(self, *names: str, timeout_s: float = 10.0) -> RingDocument:
        wait_until(lambda: self.ring().keys() == set(names), timeout_s, f"ring of {names}")
        return self.seen[-1]

    def put(self, data: bytes) -> None:
        self.witness.ensure_path(self.witness.path("ring"))
        self.witness.set(self.witness.path("ring"), data, -1)

    def standing(self) -> bytes:
        return self.witness.get(self.witness.path("ring"))[0]

    def _witnessed(self, document: RingDocument) -> None:
        self.history.apply(document)
        self.seen.append(document)

    def _probe(self, http: str, _boot_id: str) -> bool:
        name = http.removeprefix("http://").removesuffix(".test")
        self.probed.append(name)
        return name in self.alive


@contextmanager
def world_on(address: str) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(address, stack)


@pytest.fixture
def world(zookeeper: str) -> Iterator[World]:
    with world_on(zookeeper) as made:
        yield made


def moved(old: RingDocument, new: RingDocument, uids: Iterable[str] = map(str, range(500))) -> int:
    """How many users have another owner in the second document."""
    before, after = RingHistory(hashing(ALG)), RingHistory(hashing(ALG))
    before.apply(old)
    after.apply(new)
    assert before.current is not None
    assert after.current is not None
    return sum(before.current.owner(uid).id != after.current.owner(uid).id for uid in uids)


def test_the_first_ring_is_numbered_by_the_second_of_its_publication(world: World) -> None:
    publisher = world.publisher()
    world.node("a")
    first = world.wait_ring("a")
    assert (first.version, first.alg, first.members) == (Version(WALL, 1), ALG, (member("a"),))
    wait_until(lambda: world.mirror.document == first)
    status = publisher.status()
    assert (status.elected, status.document, status.nodes, status.age_s) == (True, first, {"active": 1}, 0.0)


def test_joining_becoming_active_weight_drain_and_leave_are_each_an_epoch(world: World) -> None:
    publisher = world.publisher()
    world.node("a")
    world.wait_ring("a")
    node = world.node("b", State.JOINING)
    wait_until(lambda: publisher.status().nodes.get("joining") == 1)
    assert world.ring() == {"a": 64}
    node.set_state(State.ACTIVE)
    world.wait_ring("a", "b")
    node.update(record("b", vnodes=128))  # a change of data only: no watch on the children would see it
    wait_until(lambda: world.ring() == {"a": 64, "b": 128})
    node.set_state(State.DRAINING)
    draining = world.wait_ring("a")
    assert draining.member("b") == member("b", state=State.DRAINING, vnodes=128)
    node.close()
    wait_until(lambda: world.seen[-1].member("b") is None)
    assert [d.version for d in world.seen] == [Version(WALL, epoch) for epoch in range(1, 6)]
    assert publisher.status().decisions["join", "admit"] == 1


def test_a_node_whose_session_expires_leaves(world: World) -> None:
    world.publisher()
    world.node("a")
    zk = world.session()
    world.node("b", zk=zk)
    world.wait_ring("a", "b")
    zk.stop()
    world.wait_ring("a")


def test_one_publisher_at_a_time_and_the_next_goes_on_where_it_stopped(world: World) -> None:
    first = world.publisher()
    wait_until(lambda: first.status().elected)
    second = world.publisher()
    world.node("a")
    world.wait_ring("a")
    assert not second.status().elected
    first.stop()
    wait_until(lambda: second.status().elected)
    world.wall += 1.0
    wait_until(lambda: len(world.seen) == 2)
    world.node("b")
    world.wait_ring("a", "b")
    # The second of them has the members of the first: it says who is in office now.
    assert [d.version for d in world.seen] == [Version(WALL, 1), Version(WALL + 1, 2), Version(WALL + 1, 3)]
    assert world.seen[0].members == world.seen[1].members


def test_an_expired_publisher_is_replaced_and_the_ring_stays(world: World) -> None:
    zk = world.session()
    first = world.publisher(zk=zk)
    wait_until(lambda: first.status().elected)
    second = world.publisher()
    world.node("a")
    world.wait_ring("a")
    expire_session(zk.client)
    wait_until(lambda: second.status().elected and not first.status().elected)
    world.wall += 1.0
    wait_until(lambda: len(world.seen) == 2)
    assert world.seen[0].members == world.seen[1].members
    assert (first.alarms, second.alarms) == ({}, {})
    wait_until(lambda: (first.status().nodes, second.status().nodes) == ({}, {"active": 1}))


def test_a_zombie_publisher_is_refused_and_nothing_is_numbered_twice(world: World) -> None:
    """Between its last look and its write, its candidacy ended and another took over."""
    zk = world.session()
    zombie = world.publisher(zk=zk)
    world.node("a")
    world.wait_ring("a")
    publish = zombie._election.publish

    def too_late(data: bytes, expected_version: int) -> None:
        assert zk.session_id is not None
        zk.delete(zk.path("leader", session_name(zk.session_id)))
        publish(data, expected_version)

    zombie._election.publish = too_late  # type: ignore[method-assign]
    other = world.publisher()
    world.node("b")
    wait_until(lambda: zombie.alarms["fenced"] >= 1)
    world.wall += 1.0
    world.wait_ring("a", "b")
    assert other.status().elected
    assert [d.epoch for d in world.seen] == [1, 2, 3]


def test_nothing_changes_while_zookeeper_is_away_and_all_goes_on_after() -> None:
    with devserver() as server, world_on(server.address) as world:
        publisher = world.publisher()
        world.node("a")
        world.node("b")
        world.wait_ring("a", "b")
        server.stop()
        wait_until(lambda: publisher.status().age_s > 0.5)
        assert {v.guard for v in publisher.status().verdicts} == {"frozen"}
        assert publisher.status().document == world.seen[-1]
        # Another may be elected by now: two that say they publish would be an alarm without a cause.
        assert (publisher.status().elected, publisher.status().nodes) == (False, {})
        server.start()
        world.wall += 1.0  # if the session is over, it is a new term
        wait_until(lambda: publisher.status().age_s == 0.0)
        world.node("c")
        world.wait_ring("a", "b", "c")


# --- what was lost


def test_a_wipe_moves_nobody_and_numbers_never_go_back(world: World) -> None:
    """The ring znode gone: the least that a wipe does, and it can be done to a shared server."""
    publisher = world.publisher()
    world.node("a")
    before = world.wait_ring("a")
    world.wall += 1.0
    world.witness.delete(world.witness.path("ring"))
    wait_until(lambda: len(world.seen) == 2)
    after = world.seen[-1]
    assert after.version > before.version
    assert (after.members, moved(before, after)) == (before.members, 0)
    assert publisher.alarms["lost"] == 1


def test_a_wiped_server_gets_its_ring_again_and_no_node_is_taken_out_meanwhile() -> None:
    """All sessions end, all entries are gone, and the nodes come back one by one: each is asked before it is let go."""
    with devserver() as server, world_on(server.address) as world:
        world.publisher()
        for name in ("a", "b"):
            world.node(name)
        before = world.wait_ring("a", "b")
        world.alive = {"a", "b"}
        world.wall += 1.0
        server.wipe()
        wait_until(lambda: world.seen[-1].version > before.version, 20.0)
        wait_until(lambda: all(node.registered and node._zk.connected for node in world.nodes.values()), 20.0)
        assert {frozenset(d.weights) for d in world.seen} <= {frozenset("a"), frozenset("ab")}
        assert all(d.weights.keys() == {"a", "b"} for d in world.seen if d.version >= before.version)


@pytest.mark.parametrize("source", ["mirror", "memory"])
def test_a_new_publisher_finds_the_ring_in_the_mirror_or_in_its_process(world: World, source: str) -> None:
    last = document(WALL - 1000, 7, [member("a"), member("b")])
    if source == "mirror":
        world.mirror = FakeMirror(last)
    world.alive = {"a", "b"}
    world.publisher(memory=lambda: last if source == "memory" else None)
    wait_until(lambda: world.seen)
    again = world.seen[0]
    assert (again.version, again.members) == (Version(WALL, 8), last.members)


def test_a_restored_older_ring_is_replaced_by_the_newest_known(world: World) -> None:
    world.publisher()
    world.node("a")
    old = world.wait_ring("a")
    world.node("b")
    before = world.wait_ring("a", "b")
    world.wall += 1.0
    world.put(old.to_bytes())
    wait_until(lambda: world.seen[-1].version > before.version)
    assert world.seen[-1].members == before.members
    assert world.reader.alarms["older"] <= 1  # seen, or replaced before it was


def test_who_takes_office_numbers_the_ring_anew_and_moves_nobody(world: World) -> None:
    """ZooKeeper may have been restored from a backup while Redis was empty: nodes may have read later rings."""
    backup = document(WALL - 1000, 5, [member("a"), member("b")])
    world.put(backup.to_bytes())
    world.alive = {"a", "b"}
    publisher = world.publisher(memory=lambda: backup)
    wait_until(lambda: world.seen[-1:] != [backup] and world.seen)
    assert (world.seen[-1].version, world.seen[-1].members) == (Version(WALL, 6), backup.members)
    assert publisher.alarms == {}


def test_a_new_gen_waits_until_the_clock_has_passed_the_last_one(world: World) -> None:
    """Else two histories, neither of which knows of the other, could get the same gen."""
    world.publisher()
    world.node("a")
    before = world.wait_ring("a")
    world.witness.delete(world.witness.path("ring"))
    world.node("b")
    wait_until(lambda: world.witness.exists(world.witness.path("ring")))
    assert world.standing() == b""
    world.wall += 1.0
    wait_until(lambda: world.seen[-1].version > before.version)
    assert world.seen[-1].version == Version(WALL + 1, 2)


def test_a_clock_that_is_behind_does_not_make_numbers_go_back(world: World) -> None:
    future = document(WALL + 10**6, 3, [member("a")])
    world.mirror = FakeMirror(future)
    world.alive = {"a"}
    world.publisher()
    wait_until(lambda: world.seen)
    assert world.seen[0].version == Version(WALL + 10**6 + 1, 4)


@pytest.mark.parametrize("source", ["mirror", "memory"])
def test_a_newer_ring_that_comes_to_light_later_is_published_again_above_it(
    world: World, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """ZooKeeper was empty and Redis away when it took office, by a clock that is behind: readers would ignore it."""
    monkeypatch.setattr("ringway.lookup_service.ring_copy.RETRY_S", 0.1)
    newer = document(WALL + 1000, 7, [member("a"), member("b")])
    remembered: list[RingDocument] = []
    world.alive = {"a", "b"}
    if source == "mirror":
        world.mirror = FakeMirror(newer)
        world.mirror.away = True
    publisher = world.publisher(memory=lambda: remembered[0] if remembered else None)
    world.node("a")
    assert world.wait_ring("a").version == Version(WALL, 1)
    remembered += [newer] if source == "memory" else []
    world.mirror.away = False
    publisher._loop.wake()
    again = world.wait_ring("a", "b")
    assert (again.version, again.members) == (Version(WALL + 1001, 8), newer.members)
    assert publisher.alarms["lost"] == 1
    wait_until(lambda: world.mirror.document == again)


def test_a_newer_copy_is_seen_by_a_publisher_that_has_nothing_to_publish_yet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringway.lookup_service.ring_copy.RETRY_S", 0.1)
    world.mirror = FakeMirror(document(WALL + 1000, 7, [member("a")]))
    world.mirror.away = True
    publisher = world.publisher()
    wait_until(lambda: publisher.alarms["mirror"])
    world.mirror.away = False
    world.alive = {"a"}
    assert world.wait_ring("a").version == Version(WALL + 1001, 8)


def unsigned(good: RingDocument) -> bytes:
    return json.dumps({**json.loads(good.to_bytes()), "mac": "", "epoch": good.epoch + 100}).encode()


@pytest.mark.parametrize(
    ("bad", "alarm"),
    [
        (unsigned, "forged"),
        (lambda _: document(WALL, 99, [member("evil")], STRANGER).to_bytes(), "forged"),
        (lambda _: b"nonsense", "corrupt"),
        (lambda good: document(good.gen, good.epoch, [member("evil")]).to_bytes(), "lost"),
    ],
    ids=["unsigned", "foreign key", "nonsense", "same number"],
)  # fmt: skip
def test_what_stands_there_and_is_not_ours_is_replaced_with_an_alarm(
    world: World, bad: Callable[[RingDocument], bytes], alarm: str
) -> None:
    publisher = world.publisher()
    world.node("a")
    before = world.wait_ring("a")
    world.wall += 1.0
    world.put(bad(before))
    wait_until(lambda: world.seen[-1].version > before.version)
    assert world.seen[-1].members == before.members
    assert publisher.status().alarms[alarm] >= 1


def test_a_forged_copy_in_redis_is_ignored_and_replaced(world: World) -> None:
    world.mirror = FakeMirror(document(WALL, 99, [member("evil")], STRANGER).to_bytes())
    publisher = world.publisher()
    world.node("a")
    first = world.wait_ring("a")
    assert first.version == Version(WALL, 1)
    assert publisher.alarms["forged"] == 1
    wait_until(lambda: world.mirror.document == first)


@pytest.mark.parametrize("forger", [STRANGER, KEYS], ids=["by a stranger", "an old one under a high number"])
def test_a_copy_whose_number_nobody_vouches_for_does_not_keep_the_ring_out(world: World, forger: KeyRing) -> None:
    world.mirror = FakeMirror(document(WALL - 9, 1, [member("evil")], forger).to_bytes())
    world.mirror.version = (2**50, 1)
    world.publisher()
    world.node("a")
    wait_until(lambda: bool(world.seen) and world.mirror.data == world.seen[-1].to_bytes(), 10.0, "the copy replaced")


def test_a_publication_does_not_wait_for_redis_and_is_copied_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringway.lookup_service.ring_copy.RETRY_S", 0.2)
    world.mirror.away = True
    publisher = world.publisher()
    world.node("a")
    world.wait_ring("a")
    assert publisher.alarms["mirror"] >= 1
    assert world.mirror.document is None
    world.mirror.away = False
    wait_until(lambda: world.mirror.document == world.seen[-1])


def test_another_rule_of_hashing_is_published_with_an_alarm(world: World) -> None:
    before = document(WALL - 10, 5, [member("a")])
    world.mirror = FakeMirror(before)
    world.put(before.to_bytes())
    world.node("a")
    publisher = world.publisher(alg="blake2b-keyed-v1", key=b"0123456789abcdef")
    wait_until(lambda: b"blake2b-keyed-v1" in world.standing())
    assert publisher.alarms["alg"] == 1
    wait_until(lambda: world.reader.alarms["refused"] == 1)  # the witness goes by the other rule


# --- the belt: every 30 seconds all is looked at again, though no event came


@pytest.fixture
def quick_reconcile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringway.lookup_service.publisher.RECONCILE_S", 0.2)


@pytest.mark.usefixtures("quick_reconcile")
def test_a_copy_that_redis_lost_is_made_again(world: World) -> None:
    world.publisher()
    world.node("a")
    ring = world.wait_ring("a")
    wait_until(lambda: world.mirror.document == ring)
    assert world.mirror.data is not None
    assert world.mirror.discard(world.mirror.data)
    wait_until(lambda: world.mirror.document == ring)
    assert world.seen == [ring]


@pytest.mark.usefixtures("quick_reconcile")
def test_a_nodes_record_is_read_again_where_its_event_was_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Entry, "__call__", lambda *_: None)
    world.publisher()
    node = world.node("a")
    world.wait_ring("a")
    node.update(record("a", vnodes=128))
    wait_until(lambda: world.ring() == {"a": 128})


# --- guards, through to the ring


def test_a_mass_loss_is_probed_and_only_the_dead_leave(world: World) -> None:
    publisher = world.publisher()
    crowd = world.session()
    for name in "abcdef":
        world.node(name, zk=crowd if name in "abcd" else None)
    world.wait_ring(*"abcdef")
    world.alive = {"a", "b"}
    crowd.stop()
    world.wait_ring("a", "b", "e", "f")
    assert any(v.guard == "mass_loss" and v.alarm for v in publisher.status().verdicts)
    accept_losses(world.witness)
    world.wait_ring("e", "f")
    assert world.witness.exists(world.witness.path("orders", "accept-losses")) is None


def test_200_joins_in_a_burst_are_at_most_5_epochs(world: World) -> None:
    world.publisher(GuardOptions())
    world.node("a")
    before = world.wait_ring("a")
    crowd = world.session()
    names = [f"n{number}" for number in range(200)]
    for name in names:
        crowd.create(crowd.path("nodes", name), record(name).to_bytes(), ephemeral=True)
    after = world.wait_ring("a", *names, timeout_s=20.0)
    assert after.epoch - before.epoch <= 5


FLAPPY = replace(QUICK, flap_leaves=2, flap_quiet_s=600.0)


def flapped(world: World, publisher: Publisher) -> None:
    """Node b has left twice and is back: out for ten minutes."""
    world.node("a")
    for _ in range(2):
        node = world.node("b")
        wait_until(lambda: publisher.status().nodes.get("active") == 2)
        world.wait_ring("a", "b")
        node.close()
        wait_until(lambda: publisher.status().nodes.get("active") == 1)
    world.node("b")
    wait_until(lambda: excluded(publisher))
    world.wait_ring("a")


def excluded(publisher: Publisher) -> bool:
    status = publisher.status()
    return status.elected and [v.node for v in status.verdicts if v.guard == "flapping"] == ["b"]


def test_a_flapping_node_stays_out_when_another_publishes(world: World) -> None:
    first = world.publisher(FLAPPY)
    flapped(world, first)
    second = world.publisher(FLAPPY)
    wait_until(lambda: not second.status().elected)
    first.stop()
    world.wall += 1.0
    wait_until(lambda: excluded(second) and world.seen[-1].gen > WALL)
    assert world.ring() == {"a": 64}


def test_a_flapping_node_stays_out_when_the_same_process_is_elected_again(world: World) -> None:
    zk = world.session()
    publisher = world.publisher(FLAPPY, zk=zk)
    flapped(world, publisher)
    term = publisher._term
    world.wall += 1.0
    expire_session(zk.client)
    wait_until(lambda: publisher._term not in (None, term) and excluded(publisher) and world.seen[-1].gen > WALL)
    assert world.ring() == {"a": 64}


def test_a_flapping_node_stays_out_when_zookeeper_lost_who_flaps(world: World) -> None:
    """As after a wipe: the process that publishes again still knows."""
    zk = world.session()
    publisher = world.publisher(FLAPPY, zk=zk)
    flapped(world, publisher)
    path, term = world.witness.path("flapping"), publisher._term
    wait_until(lambda: world.witness.get(path)[0])
    world.witness.delete(path)
    world.wall += 1.0
    expire_session(zk.client)
    wait_until(lambda: publisher._term not in (None, term) and excluded(publisher))
    wait_until(lambda: world.witness.exists(path) and world.witness.get(path)[0])


def test_what_a_stranger_says_of_flapping_nodes_is_an_alarm_and_excludes_nobody(world: World) -> None:
    world.witness.ensure_path(world.witness.path("flapping"))
    track = Track(record("a"), leaves=(0.0,), strikes=9, excluded=True)
    world.witness.set(world.witness.path("flapping"), to_bytes({"a": track}, STRANGER, 0.0, world.wall), -1)
    publisher = world.publisher()
    world.node("a")
    world.wait_ring("a")
    assert publisher.alarms == {"flapping": 1}
