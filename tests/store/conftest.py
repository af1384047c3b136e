"""A client and a log on the shared Redis, under a cluster name that no other test has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def keys(cluster_name: str) -> Keys:
    return Keys(cluster_name)


@pytest.fixture
def log(client: Client, keys: Keys) -> MessageLog:
    return MessageLog(client, keys)
