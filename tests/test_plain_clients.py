"""The harness of plain clients does what it says, since the integration tests judge by it."""

from __future__ import annotations

from tests.harness.clients import PlainClients
from tests.harness.fake_node import FakeCluster
from tests.harness.waiting import wait_until

UIDS = [f"user{number}" for number in range(40)]


def test_all_are_open_and_frames_are_counted() -> None:
    with FakeCluster() as cluster, PlainClients(cluster.urls, UIDS, keep_frames=True) as clients:
        assert set(clients.nodes().values()) == {"n1"}
        clients.send("user0", {"t": "send", "id": "m1", "to": "user1", "body": 1})
        wait_until(lambda: clients["user1"].kinds["msg"] == 1)
        wait_until(lambda: clients["user0"].kinds["ok"] == 1)
        assert clients["user1"].frames[-1]["body"] == 1
        assert not clients.closed()


def test_a_move_is_noted_not_obeyed_and_4300_leads_to_a_new_route() -> None:
    with FakeCluster() as cluster, PlainClients(cluster.urls, UIDS) as clients:
        cluster.move("n2")
        wait_until(lambda: clients.told_to_move() == set(UIDS))
        assert set(clients.nodes().values()) == {"n1"}
        cluster.close_all("n1", 4300, 200, 2)
        wait_until(lambda: set(clients.nodes().values()) == {"n2"})
        assert clients.reconnects() == {1: len(UIDS)}
        assert clients.codes() == {4300: len(UIDS)}
        assert all(0 < client.gap_s < 5 for client in clients)


def test_a_broken_client_comes_back_and_a_stopped_one_does_not() -> None:
    with FakeCluster() as cluster, PlainClients(cluster.urls, UIDS[:2]) as clients:
        clients.drop("user0")
        clients.wait_for(lambda client: client.uid != "user0" or client.reconnects == 1)
        cluster.close_all("n1", 4010)
        wait_until(lambda: clients.codes()[4010] == 2)
        assert clients.not_open() == UIDS[:2]
