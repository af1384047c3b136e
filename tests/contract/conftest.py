"""Every ZooKeeper that the contract is run against, and clients of it that are always stopped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.conftest import CHOICES
from tests.harness.zookeepers import DevServerZooKeeper, GivenZooKeeper, Provider, Stoppable, own

OWNER = "node:secret"  # whom the tests of ACLs leave as the owner of znodes
Connect = Callable[..., KazooClient]


def _real(config: pytest.Config) -> Provider:
    choice = config.stash[CHOICES][0]
    if choice.real:
        return choice.make()
    pytest.skip(f"no real ZooKeeper: {choice.sentence}")


@pytest.fixture(scope="module", params=["devserver", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[Provider]:
    with DevServerZooKeeper() if request.param == "devserver" else _real(request.config) as provider:
        yield provider


@pytest.fixture(params=["devserver", "real"])
def stoppable(request: pytest.FixtureRequest) -> Iterator[Stoppable]:
    """One for this test alone, which it may stop, freeze and wipe."""
    provider = DevServerZooKeeper() if request.param == "devserver" else _real(request.config)
    if isinstance(provider, GivenZooKeeper):
        provider = own()
    with provider:
        yield provider


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Gives started kazoo clients: connect(address, timeout=4.0, ...)."""
    clients: list[KazooClient] = []

    def connected(address: str, timeout: float = 4.0, **options: Any) -> KazooClient:
        retry = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2}
        client = KazooClient(address, timeout=timeout, connection_retry=retry, **options)
        clients.append(client)
        client.start(timeout=15)
        return client

    yield connected
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def zk(server: Provider, connect: Connect) -> KazooClient:
    return connect(server.address)


@pytest.fixture
def other(server: Provider, connect: Connect) -> KazooClient:
    """A second client, with a session of its own."""
    return connect(server.address)


@pytest.fixture
def root(zk: KazooClient) -> Iterator[str]:
    """A path of this test alone, already created."""
    path = f"/contract-{uuid.uuid4().hex[:10]}"
    zk.create(path)
    yield path
    zk.add_auth("digest", OWNER)
    zk.delete(path, recursive=True)
