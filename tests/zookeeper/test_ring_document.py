"""Reading and publishing the ring document."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from ringway.core.errors import Unavailable
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument
from ringway.zookeeper.calls import CALL_TIMEOUT_S
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.ring_document import Election, Fenced, RingReader, session_name
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import expire_session
from tests.zookeeper.help import KEYS, devserver, document, member, new_cluster, session, timed

STRANGER = KeyRing.parse("x:a-secret-that-nobody-here-holds")


def nothing(*_: object) -> None:
    return


@contextmanager
def reading(zk: ZooKeeper, on_document: Callable[[RingDocument], object] = nothing) -> Iterator[RingReader]:
    reader = RingReader(zk, KEYS, on_document)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


def put(zk: ZooKeeper, data: bytes) -> None:
    """Write the ring znode as no publisher would."""
    zk.ensure_path(zk.path("ring"))
    zk.set(zk.path("ring"), data, -1)


def tampered(good: RingDocument) -> bytes:
    return good.to_bytes().replace(b'"vnodes":64', b'"vnodes":65')


def unsigned(good: RingDocument) -> bytes:
    return json.dumps({**json.loads(good.to_bytes()), "mac": "", "kid": ""}).encode()


def test_reads_what_stands_and_what_comes(zookeeper: str) -> None:
    seen: list[RingDocument] = []
    with session(zookeeper) as zk, reading(zk, seen.append) as reader:
        wait_until(lambda: reader.last_read is not None)
        assert reader.document is None
        for epoch in (1, 2, 3):
            put(zk, document(1, epoch).to_bytes())
            wait_until(lambda epoch=epoch: len(seen) == epoch)  # type: ignore[misc]
        assert seen == [document(1, epoch) for epoch in (1, 2, 3)]


def test_a_key_that_still_verifies_is_enough(zookeeper: str) -> None:
    with session(zookeeper) as zk:
        both = KeyRing.parse("new:a-secret-that-is-the-new-one,dev:ringway-development-key-known-to-everybody")
        reader = RingReader(zk, both, nothing)
        put(zk, document(1, 1).to_bytes())
        assert reader.refresh(5.0) == document(1, 1)


@pytest.mark.parametrize(
    ("bad", "alarm"),
    [
        (unsigned(document(1, 2)), "forged"),
        (document(1, 2, keys=STRANGER).to_bytes(), "forged"),
        (document(1, 2).to_bytes().replace(b'"epoch":2', b'"epoch":9'), "forged"),
        (tampered(document(1, 2)), "corrupt"),
        (b"nonsense", "corrupt"),
        (document(1, 1, [member("other")]).to_bytes(), "conflict"),
        (document(0, 9).to_bytes(), "older"),
    ],
    ids=["unsigned", "foreign key", "number changed", "members changed", "nonsense", "same number", "restored"],
)
def test_drops_what_must_not_be_used_with_an_alarm(zookeeper: str, bad: bytes, alarm: str) -> None:
    seen: list[RingDocument] = []
    with session(zookeeper) as zk, reading(zk, seen.append) as reader:
        put(zk, document(1, 1).to_bytes())
        wait_until(lambda: seen)
        put(zk, bad)
        wait_until(lambda: reader.alarms[alarm] == 1)
        assert (seen, reader.document) == ([document(1, 1)], document(1, 1))
        put(zk, document(1, 3).to_bytes())
        wait_until(lambda: reader.document == document(1, 3))


def test_row_07_a_change_during_a_disconnection_is_seen() -> None:
    cluster = new_cluster()
    seen: list[RingDocument] = []
    with (
        devserver() as server, session(server.address, cluster) as zk,
        session(server.address, cluster) as writer, reading(zk, seen.append),
    ):  # fmt: skip
        put(writer, document(1, 1).to_bytes())
        wait_until(lambda: seen)
        for epoch in range(2, 12):  # the reader is away for a moment each time, the watch it had is gone
            server.drop()
            write = partial(writer.set, writer.path("ring"), document(1, epoch).to_bytes(), -1)
            wait_until(write, ignore=(Unavailable,))
        wait_until(lambda: seen[-1] == document(1, 11))


def test_row_09_a_change_whose_event_was_lost_is_seen_within_the_reconcile_time(
    zookeeper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringway.zookeeper.ring_document.RECONCILE_S", 0.2)
    with session(zookeeper) as zk:
        put(zk, document(1, 1).to_bytes())
        reader = RingReader(zk, KEYS, nothing)
        monkeypatch.setattr(reader._loop, "wake", nothing)  # what every watch of it calls
        reader.start()
        try:
            wait_until(lambda: reader.document == document(1, 1))
            put(zk, document(1, 2).to_bytes())
            wait_until(lambda: reader.document == document(1, 2))
        finally:
            reader.stop()


def test_row_10_a_failing_callback_is_called_again_with_the_same_arguments_and_ends_nothing(zookeeper: str) -> None:
    calls: list[tuple[object, ...]] = []

    def fail_once(*arguments: RingDocument) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise TypeError("broken callback")

    with session(zookeeper) as zk, reading(zk, fail_once) as reader:
        put(zk, document(1, 1).to_bytes())
        wait_until(lambda: reader.document)
        assert calls == [(document(1, 1),)] * 2
        put(zk, document(1, 2).to_bytes())
        wait_until(lambda: len(calls) == 3)


def test_refresh_sees_every_write_before_it_and_is_shared(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as writer, session(zookeeper, cluster) as zk:
        reader = RingReader(zk, KEYS, nothing)
        reads = _count_calls(zk, "sync")
        for epoch in range(1, 20):
            put(writer, document(1, epoch).to_bytes())
            assert reader.refresh(5.0) == document(1, epoch)
        del reads[:]
        begun = threading.Barrier(101)

        def refresh() -> None:
            begun.wait(10.0)
            reader.refresh(5.0)

        together = [threading.Thread(target=refresh) for _ in range(100)]
        for thread in together:
            thread.start()
        with reader._lock:  # the first read is not over before the others have come
            begun.wait(10.0)
            wait_until(lambda: reads)
        for thread in together:
            thread.join()
        assert 1 <= len(reads) < 50


class Turnstile:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, waits: threading.Event) -> None:
        self._lock, self._waits = threading.Lock(), waits

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waits.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_two_reads_at_once_are_applied_in_the_order_of_their_answers(zookeeper: str) -> None:
    """The loop has its answer, a newer document is written, and a refresh reads that before the loop goes on."""
    applied: list[RingDocument] = []
    with session(zookeeper) as zk:
        put(zk, document(1, 1).to_bytes())
        reader = RingReader(zk, KEYS, applied.append)
        refreshed_or_waits = threading.Event()
        reader._lock = Turnstile(refreshed_or_waits)
        get = zk.get

        def overtaken(path: str, watch: object = None) -> object:
            answer = get(path)
            zk.get = get  # type: ignore[method-assign]
            put(zk, document(1, 2).to_bytes())
            refresh.start()
            assert refreshed_or_waits.wait(10.0)
            return answer

        def read_latest() -> None:
            reader._read_latest()
            refreshed_or_waits.set()

        refresh = threading.Thread(target=read_latest)
        zk.get = overtaken  # type: ignore[assignment, method-assign]
        reader._step()
        refresh.join(10.0)
        assert (applied, reader.alarms) == ([document(1, 1), document(1, 2)], {})


def _count_calls(zk: ZooKeeper, name: str) -> list[object]:
    calls: list[object] = []
    original = getattr(zk, name)

    def counted(*args: object) -> object:
        calls.append(args)
        return original(*args)

    setattr(zk, name, counted)
    return calls


def test_refresh_gives_none_within_its_time_when_nobody_answers() -> None:
    with devserver() as server, session(server.address) as zk:
        reader = RingReader(zk, KEYS, nothing)
        put(zk, document(1, 1).to_bytes())
        assert reader.refresh(1.0) == document(1, 1)
        server.freeze()
        assert timed(lambda: reader.refresh(0.2)) < CALL_TIMEOUT_S / 2  # the read itself would wait so long
        assert reader.refresh(0.1) is None
        server.thaw()
        wait_until(lambda: reader.refresh(1.0) == document(1, 1))


def test_the_oldest_candidate_is_elected_and_the_next_follows(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as one, session(zookeeper, cluster) as two, session(zookeeper, cluster) as three:
        candidates = [Election(zk) for zk in (one, two, three)]
        assert [c.campaign(nothing) for c in candidates] == [True, False, False]
        assert [c.campaign(nothing) for c in candidates] == [True, False, False]
        woken = threading.Event()
        candidates[1].campaign(lambda *_: woken.set())
        candidates[0].resign()
        assert woken.wait(5.0)
        assert [c.campaign(nothing) for c in candidates] == [False, True, False]  # the first is last in line now


def test_a_candidacy_under_the_name_of_another_session_does_not_count(zookeeper: str) -> None:
    """The session changed between looking and creating: without this nobody would be elected while it lives."""
    with session(zookeeper) as zk:
        zk.ensure_path(zk.path("leader"))
        zk.create(zk.path("leader", session_name(12345)), ephemeral=True)
        assert Election(zk).campaign(nothing)


def test_publish_follows_the_version_that_was_read(zookeeper: str) -> None:
    with session(zookeeper) as zk:
        election = Election(zk)
        assert election.campaign(nothing)
        data, version = election.read()
        assert data == b""
        election.publish(b"one", version)
        with pytest.raises(Fenced, match="another publisher"):
            election.publish(b"two", version)
        assert election.read() == (b"one", version + 1)


def test_a_zombie_publisher_is_refused(zookeeper: str) -> None:
    """Its session ended while it was about to write; the znode's version alone would still have fitted."""
    cluster = new_cluster()
    with session(zookeeper, cluster) as zombie, session(zookeeper, cluster) as zk:
        late, successor = Election(zombie), Election(zk)
        assert late.campaign(nothing)
        assert not successor.campaign(nothing)
        _, version = late.read()
        assert zombie.session_id is not None
        zk.delete(zk.path("leader", session_name(zombie.session_id)))  # as when the session expires
        assert successor.campaign(nothing)
        with pytest.raises(Fenced, match="candidacy"):
            late.publish(b"zombie", version)
        successor.publish(b"successor", version)
        assert successor.read() == (b"successor", version + 1)


def test_an_expired_candidate_stands_again_at_the_end_of_the_line(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as one, session(zookeeper, cluster) as two:
        first, second = Election(one), Election(two)
        assert first.campaign(nothing)
        assert not second.campaign(nothing)
        before = one.session_id
        expire_session(one.client)
        wait_until(lambda: one.connected and one.session_id != before)
        assert second.campaign(nothing)
        assert not first.campaign(nothing)
