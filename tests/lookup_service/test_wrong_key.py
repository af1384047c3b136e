"""A lookup that was started with another RINGWAY_KEYS and is elected: what it does, and that the doctor names it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.diagnosis import diagnose
from ringway.doctor import Servers, examine
from tests.lookup_service.registered import Cluster, Lookup, eventually

NODES = {"n1", "n2"}
OTHER_KEYS = "k9:not-the-secret-of-this-cluster"


@pytest.fixture
def cluster(zookeeper: str, redis_url: str, cluster_name: str) -> Iterator[Cluster]:
    with Cluster(zookeeper, redis_url, cluster_name) as cluster:
        yield cluster


def stop(lookup: Lookup) -> None:
    lookup.child.stopping = True
    lookup.child.send(signal.SIGTERM)
    assert lookup.child.wait(5.0)


def test_the_others_keep_their_ring_and_the_doctor_names_it(
    cluster: Cluster, zookeeper: str, redis_url: str, cluster_name: str
) -> None:
    publisher = cluster.with_nodes(*NODES)
    wrong = cluster.lookup(RINGWAY_KEYS=OTHER_KEYS)
    follower = cluster.lookup()
    eventually(lambda: follower.active() == NODES)
    before = follower.route("alice")
    stop(publisher)
    eventually(lambda: wrong.active() == NODES)  # a ring of its own: it can read no other
    eventually(lambda: follower.get("/readyz").json()["documents_dropped"].get("forged"))
    after = follower.route("alice")
    assert [after[name] for name in ("node", "gen", "epoch")] == [before[name] for name in ("node", "gen", "epoch")]

    keys = KeyRing.parse(DEVELOPMENT_KEYS)
    servers = Servers([follower.url, wrong.url], zookeeper, redis_url, cluster_name, keys)
    found = {finding.part: finding.text for finding in diagnose(examine(servers))}
    assert "'k9', which is not in RINGWAY_KEYS" in found["zookeeper"]
    assert "'k9', which is not in RINGWAY_KEYS" in found["redis"]
    assert found[f"lookup {wrong.url}"].startswith("ALARM: publishes ring ")
    assert "stop it, or give it the others' RINGWAY_KEYS" in found[f"lookup {wrong.url}"]
    assert f"lookup {follower.url}" not in found

    stop(wrong)  # the next publisher puts back the ring that the others never left
    eventually(lambda: follower.route("alice")["gen"] > after["gen"])
    assert follower.route("alice")["node"] == before["node"]
    eventually(lambda: diagnose(examine(Servers([follower.url], zookeeper, redis_url, cluster_name, keys)))[2:] == [])
