"""The contract's watches and the recipes of kazoo that ringway builds on."""

from __future__ import annotations

import queue
import struct
import threading
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, WatchedEvent
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

from tests.harness.waiting import wait_until
from tests.harness.zookeeper_raw import EXISTS, SET_WATCHES, RawSession, text, texts
from tests.harness.zookeepers import Provider

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4


class Events:
    """Collects watch events; `seen` waits for everything that happened before it to arrive."""

    def __init__(self, zk: KazooClient) -> None:
        self._zk = zk
        self._queue: queue.Queue[WatchedEvent] = queue.Queue()

    def __call__(self, event: WatchedEvent) -> None:
        self._queue.put(event)

    def seen(self) -> list[tuple[str, str]]:
        self._zk.sync("/")
        fence = threading.Event()
        self._zk.handler.completion_queue.put(fence.set)
        self._zk.handler.callback_queue.put(fence.set)
        assert fence.wait(5)
        events = []
        while not self._queue.empty():
            event = self._queue.get()
            events.append((event.type, event.path))
        return events

    def wait(self, count: int = 1) -> list[tuple[str, str]]:
        """The next `count` events."""
        events = [self._queue.get(timeout=5) for _ in range(count)]
        return [(event.type, event.path) for event in events]


@pytest.fixture
def events(zk: KazooClient) -> Events:
    return Events(zk)


def test_exists_watches_for_creation(zk: KazooClient, other: KazooClient, root: str, events: Events) -> None:
    zk.exists(f"{root}/a", watch=events)
    other.create(f"{root}/a")
    assert events.wait() == [(EventType.CREATED, f"{root}/a")]


def test_a_data_watch_fires_once(zk: KazooClient, other: KazooClient, root: str, events: Events) -> None:
    zk.create(f"{root}/a")
    zk.get(f"{root}/a", watch=events)
    for number in range(3):
        other.set(f"{root}/a", str(number).encode())
    assert events.wait() == [(EventType.CHANGED, f"{root}/a")]
    assert events.seen() == []


def test_a_child_watch_sees_children_come_and_go(
    zk: KazooClient, other: KazooClient, root: str, events: Events
) -> None:
    zk.get_children(root, watch=events)
    other.create(f"{root}/a")
    assert events.wait() == [(EventType.CHILD, root)]
    zk.get_children(root, watch=events)
    other.delete(f"{root}/a")
    assert events.wait() == [(EventType.CHILD, root)]


def test_data_of_a_child_is_no_event_of_its_parent(
    zk: KazooClient, other: KazooClient, root: str, events: Events
) -> None:
    zk.create(f"{root}/a")
    zk.get_children(root, watch=events)
    other.set(f"{root}/a", b"new")
    other.create(f"{root}/a/grandchild")
    assert events.seen() == []


def test_deletion_reaches_data_and_child_watchers_and_the_parents_too(
    zk: KazooClient, other: KazooClient, root: str, events: Events
) -> None:
    zk.create(f"{root}/a")
    zk.get(f"{root}/a", watch=events)
    zk.get_children(f"{root}/a", watch=events)
    zk.get_children(root, watch=events)
    other.delete(f"{root}/a")
    deleted = (EventType.DELETED, f"{root}/a")
    assert events.wait(3) == [deleted, deleted, (EventType.CHILD, root)]
    assert events.seen() == []


def test_a_read_that_fails_sets_no_watch(zk: KazooClient, other: KazooClient, root: str, events: Events) -> None:
    for read in (zk.get, zk.get_children):
        with pytest.raises(NoNodeError):
            read(f"{root}/a", watch=events)
    other.create(f"{root}/a")
    assert events.seen() == []


def test_a_transaction_fires_its_watches_when_it_commits(
    zk: KazooClient, other: KazooClient, root: str, events: Events
) -> None:
    zk.create(f"{root}/a")
    zk.get(f"{root}/a", watch=events)
    zk.get_children(root, watch=events)
    transaction = other.transaction()
    transaction.set_data(f"{root}/a", b"1")
    transaction.create(f"{root}/b", b"")
    transaction.commit()
    assert sorted(events.wait(2)) == sorted([(EventType.CHANGED, f"{root}/a"), (EventType.CHILD, root)])


def test_the_end_of_a_session_is_seen_by_those_who_watch_its_ephemerals(
    zk: KazooClient, other: KazooClient, root: str, events: Events
) -> None:
    for number in range(20):
        other.create(f"{root}/{number}", ephemeral=True)
    zk.exists(f"{root}/7", watch=events)
    zk.get_children(root, watch=events)
    other.stop()
    assert sorted(events.wait(2)) == sorted([(EventType.DELETED, f"{root}/7"), (EventType.CHILD, root)])
    assert zk.get_children(root) == []


def test_watches_of_a_client_that_was_away_fire_for_what_it_missed(
    server: Provider, zk: KazooClient, root: str
) -> None:
    """setWatches, which the Java client sends after a reconnect: only what is newer than its zxid fires."""
    for name in ("same", "changed", "gone", "parent", "quiet"):
        zk.create(f"{root}/{name}")
    seen = zk.create(f"{root}/last", include_data=True)[1].czxid
    zk.set(f"{root}/changed", b"new")
    zk.delete(f"{root}/gone")
    zk.create(f"{root}/parent/child")
    zk.create(f"{root}/awaited")
    data = texts(f"{root}/same", f"{root}/changed", f"{root}/gone")
    exists = texts(f"{root}/awaited", f"{root}/not-yet")
    children = texts(f"{root}/parent", f"{root}/quiet")
    with RawSession(server.address) as session:
        session.request(-8, SET_WATCHES, struct.pack("!q", seen) + data + exists + children)
        missed = [session.event() for _ in range(4)]
        assert sorted(missed) == sorted(
            [
                (CHANGED, f"{root}/changed"),
                (DELETED, f"{root}/gone"),
                (CREATED, f"{root}/awaited"),
                (CHILD, f"{root}/parent"),
            ]
        )
        assert session.answer()[0] == -8
        zk.set(f"{root}/same", b"later")
        assert session.event() == (CHANGED, f"{root}/same")
        zk.create(f"{root}/not-yet")
        assert session.event() == (CREATED, f"{root}/not-yet")
        zk.create(f"{root}/quiet/child")
        assert session.event() == (CHILD, f"{root}/quiet")


def test_a_watch_event_comes_before_the_answer_that_shows_the_change(
    server: Provider, zk: KazooClient, root: str
) -> None:
    """ZooKeeper's ordering guarantee; nobody may read the new state while the event is still under way."""
    with RawSession(server.address) as session:
        session.request(1, EXISTS, text(f"{root}/a") + b"\1")
        assert session.answer()[0] == 1
        zk.create(f"{root}/a")
        session.request(2, EXISTS, text(f"{root}/a") + b"\0")
        assert session.event() == (CREATED, f"{root}/a")
        assert session.answer()[0] == 2


def test_children_watch_follows_to_the_last_state(zk: KazooClient, other: KazooClient, root: str) -> None:
    states: list[set[str]] = []
    ChildrenWatch(zk, root, lambda children: states.append(set(children)))
    for number in range(50):
        other.create(f"{root}/{number}", ephemeral=number % 2 == 0)
    wait_until(lambda: len(states[-1]) == 50, 5, "all children seen")
    other.stop()
    wait_until(lambda: len(states[-1]) == 25, 5, "the ephemerals are gone")


def test_children_watch_stops_for_ever_when_its_node_is_deleted(
    zk: KazooClient, other: KazooClient, root: str
) -> None:
    """Row 9 of the background's table; kazoo#153. ringway never deletes the parent."""
    other.create(f"{root}/parent")
    watch = ChildrenWatch(zk, f"{root}/parent", lambda children: None)
    other.delete(f"{root}/parent")
    wait_until(lambda: watch._stopped, 5, "the watch has stopped")


def test_data_watch_follows_creation_change_and_deletion(zk: KazooClient, other: KazooClient, root: str) -> None:
    seen: queue.Queue[Any] = queue.Queue()
    DataWatch(zk, f"{root}/ring", lambda data, stat: seen.put((data, stat.version if stat else None)))
    assert seen.get(timeout=5) == (None, None)
    other.create(f"{root}/ring", b"1")
    assert seen.get(timeout=5) == (b"1", 0)
    other.set(f"{root}/ring", b"2")
    assert seen.get(timeout=5) == (b"2", 1)
    other.delete(f"{root}/ring")
    assert seen.get(timeout=5) == (None, None)


def test_a_lock_passes_from_one_to_the_next(zk: KazooClient, other: KazooClient, root: str) -> None:
    first, second = zk.Lock(f"{root}/lock", "first"), other.Lock(f"{root}/lock", "second")
    assert first.acquire(timeout=5)
    assert not second.acquire(blocking=False)
    got = threading.Thread(target=second.acquire, kwargs={"timeout": 10})
    got.start()
    wait_until(lambda: first.contenders() == ["first", "second"], 5, "the second waits")
    first.release()
    got.join(10)
    assert second.is_acquired
    second.release()


def test_a_lock_is_free_when_its_holders_session_ends(zk: KazooClient, other: KazooClient, root: str) -> None:
    other.Lock(f"{root}/lock").acquire(timeout=5)
    mine = zk.Lock(f"{root}/lock")
    assert not mine.acquire(blocking=False)
    other.stop()
    assert mine.acquire(timeout=5)
    mine.release()


def test_an_election_has_one_winner_and_then_the_next(zk: KazooClient, other: KazooClient, root: str) -> None:
    order: queue.Queue[str] = queue.Queue()
    resign = {"one": threading.Event(), "two": threading.Event()}

    def lead(name: str) -> None:
        order.put(name)
        resign[name].wait(10)

    elections = {"one": zk.Election(f"{root}/e", "one"), "two": other.Election(f"{root}/e", "two")}
    threads = [threading.Thread(target=each.run, args=(lead, name)) for name, each in elections.items()]
    for thread in threads:
        thread.start()
    first = order.get(timeout=5)
    wait_until(lambda: len(elections["one"].contenders()) == 2, 5, "both stand")
    assert order.empty()
    resign[first].set()
    second = order.get(timeout=5)
    assert {first, second} == {"one", "two"}
    resign[second].set()
    for thread in threads:
        thread.join(10)
