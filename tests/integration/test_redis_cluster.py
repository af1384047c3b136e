"""A whole cluster on a Redis Cluster of three masters: what single servers do in one pipeline goes to several there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.client_sdk import Client
from ringway.store.publisher import Publisher
from tests.harness import web, zookeepers
from tests.harness.cluster import Cluster
from tests.harness.redis_fleets import RedisClusterServers
from tests.harness.waiting import wait_until

USERS = 12
pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with RedisClusterServers() as servers:
        yield servers.url


@pytest.fixture
def cluster(zookeeper_server: zookeepers.Provider, redis_url: str) -> Iterator[Cluster]:
    with Cluster(zookeeper=zookeeper_server.address, redis=redis_url, nodes=2) as cluster:
        yield cluster


@pytest.fixture
def users(cluster: Cluster) -> Iterator[list[Client]]:
    clients = [Client(cluster.url, f"user-{i}", groups=["all"]) for i in range(USERS)]
    for client in clients:
        client.connect()
        client.join("all").result(10.0)
    yield clients
    for client in clients:
        client.close()


def heard(clients: list[Client]) -> list[object]:
    return [client.receive(10.0).body for client in clients]


def test_every_kind_of_message_reaches_users_on_both_nodes(
    cluster: Cluster, users: list[Client], redis_url: str
) -> None:
    assert len({client.node for client in users}) == 2
    first, names = users[0], [client.uid for client in users]
    first.send(names, "durable").result(10.0)
    assert heard(users) == ["durable"] * USERS
    for name in names:
        first.send(name, "volatile", volatile=True).result(10.0)
    assert heard(users) == ["volatile"] * USERS
    first.publish("all", "group").result(10.0)
    assert heard(users) == ["group"] * USERS
    web.post(f"{cluster.url}/broadcast", json={"body": "broadcast"}).raise_for_status()
    assert heard(users) == ["broadcast"] * USERS
    web.post(f"{cluster.url}/send", json={"to": names, "body": 1, "volatile": True}).raise_for_status()
    assert heard(users) == [1] * USERS
    back_end = Publisher(redis_url, cluster=cluster.name)
    back_end.broadcast("from a back end")
    assert heard(users) == ["from a back end"] * USERS
    back_end.close()


def test_a_drain_is_ordered_over_it_and_moves_everybody(cluster: Cluster, users: list[Client]) -> None:
    leaving = users[0].node
    web.post(f"{cluster.url}/nodes/{leaving}/drain").raise_for_status()
    wait_until(lambda: all(client.node != leaving and client.state.value == "open" for client in users), 30.0)
    users[0].send([client.uid for client in users], "after").result(10.0)
    assert heard(users) == ["after"] * USERS
    assert cluster.nodes[leaving].wait_exit() == 0
