"""Redis loses what it said ok to, and whoever had the ok brings it back though it has nothing else to say."""

from __future__ import annotations

from ringway.core.errors import Unavailable
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from tests.harness import redises, web, zookeepers
from tests.harness.cluster import Cluster
from tests.harness.logs import ids
from tests.harness.waiting import wait_until


def test_an_idle_lookup_brings_back_what_was_pushed_and_lost(
    zookeeper_server: zookeepers.Provider, own_redis: redises.RealRedis
) -> None:
    with Cluster(zookeeper=zookeeper_server.address, redis=own_redis.url, nodes=1) as cluster:
        client = connect(own_redis.url)
        try:
            log = MessageLog(client, Keys(cluster.name))
            mark = own_redis.journal_size()
            for name in ("a", "b"):
                answer = web.post(f"{cluster.url}/send", json={"to": "absent", "body": name, "id": name})
                assert answer.status_code == 200
            own_redis.lose_after(mark)
            wait_until(lambda: log.heads(["u:absent"])[0] is not None, 15.0, "somebody brings them back",
                       ignore=(Unavailable,))
            assert ids(log.read("u:absent", None)) == ["a", "b"]
        finally:
            client.close()
