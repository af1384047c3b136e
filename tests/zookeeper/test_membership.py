"""A node's own entry: made, kept, taken over from a ghost, refused to a namesake."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ringway.core.errors import Unavailable
from ringway.core.members import NodeRecord, State
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.membership import DuplicateNode, NodeRegistration
from ringway.zookeeper.nodes_view import NodesView
from ringway.zookeeper.probe import livez
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import expire_session
from tests.zookeeper.help import devserver, new_cluster, record, session

PATH = ("nodes", "n1")


def dead(_http: str, _boot_id: str) -> bool:
    return False


def alive(_http: str, _boot_id: str) -> bool:
    return True


@contextmanager
def registered(zk: ZooKeeper, what: NodeRecord | None = None, *, verify_s: float = 10.0) -> Iterator[NodeRegistration]:
    registration = NodeRegistration(zk, what or record(), probe=dead, verify_s=verify_s)
    assert registration.register()
    try:
        yield registration
    finally:
        registration.close()


def leave_ghost(zk: ZooKeeper) -> None:
    """What a killed node leaves until its session expires."""
    zk.ensure_path(zk.path("nodes"))
    zk.create(zk.path(*PATH), record(boot="old").to_bytes(), ephemeral=True)


def published(zk: ZooKeeper) -> NodeRecord:
    return NodeRecord.parse(zk.get(zk.path(*PATH))[0])


def owner(zk: ZooKeeper) -> int | None:
    stat = zk.exists(zk.path(*PATH))
    return stat.ephemeralOwner if stat else None


def test_register_set_state_update_close(zookeeper: str) -> None:
    with session(zookeeper) as zk:
        with registered(zk, record(state=State.JOINING)) as registration:
            assert published(zk).state is State.JOINING
            assert registration.set_state(State.ACTIVE)
            assert published(zk) == record()
            assert registration.update(replace(record(), vnodes=512))
            assert published(zk).vnodes == 512
            assert owner(zk) == zk.session_id
        assert owner(zk) is None  # at once, though the session lives on


def test_a_ghost_is_replaced_in_one_transaction_and_its_end_takes_nothing_with_it(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as killed, session(zookeeper, cluster) as zk:
        leave_ghost(killed)
        with registered(zk, replace(record(boot="new"), http="http://elsewhere.test")) as registration:
            assert registration.counts["taken_over"] == 1
            # One transaction has one zxid: the parent's last change of children is the creation of the new entry.
            assert zk.get(zk.path("nodes"))[1].pzxid == zk.get(zk.path(*PATH))[1].czxid
            expire_session(killed.client)
            assert published(zk).boot_id == "new"
            assert owner(zk) == zk.session_id


def test_a_live_namesake_is_refused_with_value_rule_and_remedy(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as first, session(zookeeper, cluster) as second, registered(first):
        namesake = NodeRegistration(second, replace(record(boot="b2"), http="http://other.test"), probe=alive)
        with pytest.raises(DuplicateNode) as refused:
            namesake.register()
        text = str(refused.value)
        assert "RINGWAY_NODE_ID='n1'" in text
        assert "live node at http://n1.test" in text
        assert "another id" in text
        assert published(first).boot_id == "b1"


def test_a_restart_on_the_same_address_needs_no_probe(zookeeper: str) -> None:
    """Who listens on an address now proves that its last user is gone."""
    cluster = new_cluster()
    with session(zookeeper, cluster) as killed, session(zookeeper, cluster) as zk:
        leave_ghost(killed)
        registration = NodeRegistration(zk, record(boot="new"), probe=alive)
        assert registration.register()
        registration.close()


def test_who_lost_its_entry_to_a_live_namesake_is_told_and_does_not_take_it_back(zookeeper: str) -> None:
    cluster = new_cluster()
    told: list[DuplicateNode] = []
    with session(zookeeper, cluster) as frozen, session(zookeeper, cluster) as zk:
        lost = NodeRegistration(frozen, record(), probe=alive, verify_s=0.1, on_duplicate=told.append)
        lost.register()
        with registered(zk, replace(record(boot="b2"), http="http://other.test")):
            wait_until(lambda: told)
            assert not lost.registered
            assert published(zk).boot_id == "b2"
            lost.close()
            assert published(zk).boot_id == "b2"


def test_registers_again_after_its_session_expired(zookeeper: str) -> None:
    with session(zookeeper) as zk, registered(zk):
        before = zk.session_id
        expire_session(zk.client)
        wait_until(lambda: owner(zk) == zk.session_id != before, ignore=(Unavailable,))


def test_row_13_registers_again_when_the_server_forgot_the_session() -> None:
    with devserver() as server, session(server.address) as zk, registered(zk):
        before = zk.session_id
        server.amnesia()
        wait_until(lambda: owner(zk) == zk.session_id != before, ignore=(Unavailable,))


def test_an_entry_deleted_by_a_foreign_hand_is_made_again(zookeeper: str) -> None:
    with session(zookeeper) as zk, registered(zk, verify_s=0.1) as registration:
        zk.delete(zk.path(*PATH))
        wait_until(lambda: registration.counts["created"] == 2)
        assert owner(zk) == zk.session_id


def test_an_entry_overwritten_by_a_foreign_hand_is_put_right(zookeeper: str) -> None:
    with session(zookeeper) as zk, registered(zk, verify_s=0.1):
        zk.set(zk.path(*PATH), b"nonsense", -1)
        wait_until(lambda: zk.get(zk.path(*PATH))[0] == record().to_bytes())


def test_registers_when_zookeeper_comes() -> None:
    with devserver() as server, session(server.address) as zk:
        server.stop()
        wait_until(lambda: not zk.connected)
        registration = NodeRegistration(zk, record(state=State.JOINING))
        assert registration.register() is False
        assert registration.set_state(State.ACTIVE) is False
        server.start()
        wait_until(lambda: registration.registered)
        assert published(zk).state is State.ACTIVE
        registration.close()


def test_close_without_zookeeper_returns() -> None:
    with devserver() as server, session(server.address) as zk:
        registration = NodeRegistration(zk, record())
        registration.register()
        server.stop()
        wait_until(lambda: not zk.connected)
        registration.close()
        server.start()


def test_the_view_sees_joins_leaves_states_and_weights(zookeeper: str) -> None:
    """A change of data does not touch the parent's cversion: the children are watched themselves."""
    cluster = new_cluster()
    woken = threading.Event()
    with session(zookeeper, cluster) as watcher, session(zookeeper, cluster) as zk:
        view = NodesView(watcher, lambda *_: woken.set())
        assert view.read() == {}
        with registered(zk) as registration:
            changes = [record(vnodes=128), record(state=State.DRAINING)]
            for expected in (record(), *changes):
                registration.update(expected)
                assert woken.wait(5.0)
                woken.clear()
                wait_until(lambda expected=expected: view.read() == {"n1": expected})  # type: ignore[misc]
        assert woken.wait(5.0)
        wait_until(lambda: view.read() == {})


def test_row_08_many_joins_at_once_end_in_the_right_view(zookeeper: str) -> None:
    cluster = new_cluster()
    wakes: list[object] = []
    with session(zookeeper, cluster) as watcher, session(zookeeper, cluster) as zk:
        view = NodesView(watcher, lambda *_: wakes.append(1))
        view.read()
        for number in range(200):
            zk.create(zk.path("nodes", f"n{number}"), record(f"n{number}").to_bytes(), ephemeral=True)
        wait_until(lambda: len(view.read()) == 200)


def test_row_09_the_view_survives_the_deletion_of_the_parent(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as watcher, session(zookeeper, cluster) as zk:
        view = NodesView(watcher, lambda *_: None)
        assert view.read() == {}
        zk.delete(zk.path("nodes"))
        assert view.read() == {}
        with registered(zk):
            wait_until(lambda: view.read() == {"n1": record()})


def test_a_record_that_cannot_be_read_leaves_the_last_good_one_and_is_counted(zookeeper: str) -> None:
    with session(zookeeper) as zk, registered(zk):
        view = NodesView(zk, lambda *_: None)
        view.read()
        for bad in (b"nonsense", record("other").to_bytes()):
            zk.set(zk.path(*PATH), bad, -1)
            view.forget()
            assert view.read() == {"n1": record()}
        assert view.counts["bad_record"] == 2


class _Node(http.server.BaseHTTPRequestHandler):
    answer = (200, b'{"boot_id": "b1"}')

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        return


@pytest.mark.parametrize(
    ("status", "body", "boot_id", "expected"),
    [
        (200, b'{"boot_id": "b1"}', "b1", True),
        (200, b'{"boot_id": "b2"}', "b1", False),  # another process has the port now
        (200, b'{"boot_id": "b2"}', "", True),
        (200, b"ok", "b1", True),
        (503, b'{"boot_id": "b1"}', "b1", False),
    ],
)
def test_livez(status: int, body: bytes, boot_id: str, expected: bool) -> None:
    handler = type("Node", (_Node,), {"answer": (status, body)})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert livez(f"http://127.0.0.1:{server.server_port}", boot_id) is expected
        thread.join()


def test_livez_of_a_closed_port_or_nonsense() -> None:
    assert livez("http://127.0.0.1:1") is False
    assert livez("nonsense") is False
