from __future__ import annotations

from ringway.store.alive import FRESH_S, speaking
from ringway.store.client import Client
from ringway.store.keys import Keys
from ringway.store.node_stats import TTL_S, NodeStats
from ringway.store.presence import Presence


def test_who_wrote_its_figures_just_now_lives(client: Client, keys: Keys) -> None:
    assert speaking(client, keys) == {}
    stats = NodeStats(client, keys)
    for node in ("fresh", "late", "silent"):
        Presence(client, keys, node, "boot").renew()
    Presence(client, keys, "fresh", "earlier").renew()
    stats.publish("fresh", {"state": "active"})
    stats.publish("late", {"state": "active"}, TTL_S - FRESH_S)
    assert speaking(client, keys) == {"fresh": "active"}
