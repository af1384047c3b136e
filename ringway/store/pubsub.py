"""Publishing several notices in one go, to one Redis or to a Redis Cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import RedisCluster

from .client import Client, redis_errors


def publish_many(client: Client, notices: Iterable[tuple[str, bytes]]) -> None:
    """Publish (channel, notice) pairs, in order, in one pipeline. Raises Unavailable."""
    with redis_errors(), _server(client).pipeline(transaction=False) as pipe:
        for channel, notice in notices:
            pipe.publish(channel, notice)
        pipe.execute()


def _server(client: Client) -> Any:
    """Where to publish. A Cluster's servers pass notices on to each other, so any of them will do; its pipelines, which
    go by keys, know no PUBLISH."""
    if not isinstance(client, RedisCluster):
        return client
    node: Any = client.get_random_node()  # type: ignore[no-untyped-call]
    return client.get_redis_connection(node)
