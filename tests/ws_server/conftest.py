"""What tests of several modules share: two nodes, and a port with each kind of poller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.ws_server import endpoint
from tests.harness import redises, zookeepers

from .both import POLLERS
from .nodes import Nodes
from .serving import Port, serving


@pytest.fixture(scope="module")
def nodes(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    """n1 and n2, both on the ring. Tests use uids of their own and leave the ring as it was."""
    with Nodes(zookeeper_server.address, redis_server.url, "n1", "n2") as running:
        yield running


@pytest.fixture(params=POLLERS)
def each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "make_poller", request.param)


@pytest.fixture
def port(each_poller: None) -> Iterator[Port]:
    """An echo, with each poller in turn."""
    with serving() as port:
        yield port


@pytest.fixture(autouse=True)
def _no_client_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clients of a test do not outlive it, even where the nodes do."""
    yield
    if "nodes" in request.fixturenames:
        running: Nodes = request.getfixturevalue("nodes")
        while running.clients:
            running.clients.pop().close()
