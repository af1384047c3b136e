"""Two nodes that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import redises, zookeepers

from .nodes import Nodes


@pytest.fixture(scope="module")
def nodes(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    """n1 and n2, both on the ring. Tests use uids of their own and leave the ring as it was."""
    with Nodes(zookeeper_server.address, redis_server.url, "n1", "n2") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_client_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clients of a test do not outlive it, even where the nodes do."""
    yield
    if "nodes" in request.fixturenames:
        running: Nodes = request.getfixturevalue("nodes")
        while running.clients:
            running.clients.pop().close()
