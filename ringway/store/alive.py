"""Which nodes live by their own word in Redis, whatever ZooKeeper and the ring say of them."""

from __future__ import annotations

import orjson

from .client import Client, redis_errors
from .keys import Keys
from .node_stats import TTL_S

FRESH_S = 4.0  # two of the node's periods: its figures themselves stay longer, also those of a node that was killed


def speaking(client: Client, keys: Keys) -> dict[str, str]:
    """Node -> state, of those that wrote their figures a moment ago. Raises Unavailable."""
    with redis_errors():
        boots: list[bytes] = client.zrange(keys.presence_index, 0, -1)  # type: ignore[assignment]
        nodes = sorted({boot.decode().split(" ", 1)[0] for boot in boots})
        if not nodes:
            return {}
        with client.pipeline(transaction=False) as pipe:
            for node in nodes:
                pipe.get(keys.node_stats(node))
                pipe.pttl(keys.node_stats(node))
            replies = pipe.execute()
    said = zip(nodes, replies[::2], replies[1::2], strict=True)
    return {node: str(orjson.loads(figures).get("state")) for node, figures, left_ms in said
            if figures and left_ms > (TTL_S - FRESH_S) * 1000}  # fmt: skip
