"""Groups that users belong to for good, with the Python SDK, which does not even name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ringway.client_sdk import Client, Gap, Message
from ringway.core.errors import ClientError
from tests.harness import redises, web, zookeepers
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until


@pytest.fixture(scope="module")
def cluster(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Cluster]:
    """Nobody may join a team by asking: `authorize` refuses all of them."""
    env = {"RINGWAY_APP": "tests.ws_server.chat:members_only"}
    with Cluster(zookeeper=zookeeper_server.address, redis=redis_server.url, nodes=2, node_env=env) as running:
        yield running


class Device:
    """A client that remembers what it was told."""

    def __init__(self, cluster: Cluster, uid: str, **options: Any) -> None:
        self.got: list[Message] = []
        self.problems: list[Gap | ClientError] = []
        self.client = Client(cluster.url, uid, on_message=self.got.append, on_gap=self.problems.append,
                             on_error=self.problems.append, **options)

    def has(self, *bodies: Any) -> None:
        """Wait until it has had exactly these, and nothing was wrong."""
        wait_until(lambda: len(self.got) >= len(bodies), 10.0, f"{bodies}, has {self.got}")
        assert [message.body for message in self.got] == list(bodies)
        assert self.problems == []


@pytest.fixture
def online(cluster: Cluster) -> Iterator[Any]:
    """Makes devices; they are closed at the end."""
    with ExitStack() as clients:

        def connect(uid: str, **options: Any) -> Device:
            device = Device(cluster, uid, **options)
            clients.enter_context(device.client)
            return device

        yield connect


def post(cluster: Cluster, path: str, **body: Any) -> None:
    web.post(f"{cluster.url}{path}", json=body, timeout=10.0).raise_for_status()


def publish(cluster: Cluster, group: str, *bodies: Any) -> None:
    for body in bodies:
        post(cluster, "/publish", group=group, body=body)


def test_a_member_has_the_group_on_every_device_unread_messages_included(cluster: Cluster, online: Any) -> None:
    post(cluster, "/members", group="team-a", add=["ann"])
    publish(cluster, "team-a", 1, 2, 3)
    phone, laptop = online("ann", auto_ack=False), online("ann", groups=["team-a"], auto_ack=False)
    phone.has(1, 2, 3)
    laptop.has(1, 2, 3)
    publish(cluster, "team-a", 4)
    phone.has(1, 2, 3, 4)
    laptop.has(1, 2, 3, 4)
    phone.client.ack(phone.got[2])
    query = {"uid": "ann", "group": "team-a"}
    wait_until(lambda: web.get(f"{cluster.url}/unread", params=query).json()["groups"] == {"team-a": 1}, 10.0)
    online("ann").has(4)


def test_a_user_who_is_connected_joins_at_once_with_what_is_said_from_then_on(cluster: Cluster, online: Any) -> None:
    publish(cluster, "team-b", "before")
    bob = online("bob")
    post(cluster, "/members", group="team-b", add=["bob", "cleo"])
    publish(cluster, "team-b", "after")
    bob.has("after")
    assert bob.client.publish("team-b", "mine").result(5) == 3
    bob.has("after", "mine")
    online("cleo").has("after", "mine")
    post(cluster, "/close", uid="bob")  # and so it is on the next connection
    publish(cluster, "team-b", "later")
    bob.has("after", "mine", "later")


def test_who_is_removed_leaves_at_once_and_does_not_come_back_by_itself(cluster: Cluster, online: Any) -> None:
    post(cluster, "/members", group="team-c", add=["dan", "eve"])
    dan, eve = online("dan"), online("eve")
    publish(cluster, "team-c", 1)
    dan.has(1)
    eve.has(1)
    post(cluster, "/members", group="team-c", remove=["dan"])
    publish(cluster, "team-c", "not for dan")
    post(cluster, "/send", to="dan", body="goodbye")
    dan.has(1, "goodbye")
    eve.has(1, "not for dan")
    node = dan.client.node
    post(cluster, "/close", uid="dan")
    wait_until(lambda: dan.client.last_problem is not None and dan.client.state == "open", 10.0, f"back on {node}")
    publish(cluster, "team-c", "nor this")
    post(cluster, "/send", to="dan", body="still gone")
    dan.has(1, "goodbye", "still gone")  # nor was a join refused: there was none


def test_application_code_on_any_node_changes_members(cluster: Cluster, online: Any) -> None:
    fay, gil = online("fay"), online("gil")
    for node, change in zip(cluster.nodes.values(), ("add", "remove"), strict=True):
        query = {"group": "team-d", change: "1"}
        web.post(f"{node.http}/members", params=query, json=["fay", "gil"]).raise_for_status()
        publish(cluster, "team-d", change)
    for uid, device in (("fay", fay), ("gil", gil)):
        post(cluster, "/send", to=uid, body="end")
        device.has("add", "end")
