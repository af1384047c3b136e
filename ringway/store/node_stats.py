"""Each node's latest figures, for the lookups' /nodes, metrics and placement; and what it tells of its moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from .client import Client, redis_errors
from .keys import Keys

TTL_S = 10.0


class NodeStats:
    """A JSON object a node. It vanishes when the node stops publishing it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def publish(self, node: str, stats: Mapping[str, Any], ttl_s: float = TTL_S) -> None:
        """Replace the node's figures, for `ttl_s` seconds. Raises Unavailable."""
        with redis_errors():
            self._client.set(self._keys.node_stats(node), orjson.dumps(stats), px=int(ttl_s * 1000))

    def tell(self, event: Mapping[str, Any]) -> None:
        """An event for all who watch the cluster: `t` names its kind. Raises Unavailable."""
        with redis_errors():
            self._client.publish(self._keys.events_channel, orjson.dumps(event))

    def read(self, nodes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The figures of those nodes that published some lately. Raises Unavailable."""
        if not nodes:
            return {}
        with redis_errors(), self._client.pipeline(transaction=False) as pipe:
            for node in nodes:
                pipe.get(self._keys.node_stats(node))
            values = pipe.execute()
        return {node: orjson.loads(value) for node, value in zip(nodes, values, strict=True) if value}
