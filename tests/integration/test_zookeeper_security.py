"""A cluster whose ways to ZooKeeper are TLS, and whose znodes nobody else may write."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from tests.harness import zookeeper_java
from tests.harness.agreement import wait_agreed
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster, metric
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import RealZooKeeper

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not zookeeper_java.available(), reason="TLS needs Debian's zookeeper package"),
]


def test_tls_and_digest_hold_for_lookups_nodes_and_doctor(own_redis: RealRedis) -> None:
    with RealZooKeeper(tls=True) as server:
        files = server.certificates
        assert files is not None
        env = {
            "RINGWAY_ZOOKEEPER_CA": str(files.ca), "RINGWAY_ZOOKEEPER_CERT": str(files.cert),
            "RINGWAY_ZOOKEEPER_KEY": str(files.key), "RINGWAY_ZOOKEEPER_DIGEST": "ringway:a-secret",
        }  # fmt: skip
        with Cluster(zookeeper=server.tls_address, redis=own_redis.url, nodes=2, lookups=2, env=env) as cluster:
            wait_agreed(cluster)
            _strangers_read_but_do_not_write(server.address, cluster.name)
            with PlainClients(cluster.url, [f"user-{i}" for i in range(20)]) as crowd:
                assert len(set(crowd.nodes().values())) == 2
            cluster.nodes["node-2"].terminate()
            assert cluster.nodes["node-2"].wait_exit() == 0
            cluster.wait_gone("node-2")  # its owner may write: state, and the znode's end
            wait_agreed(cluster)
            _doctor_agrees({**cluster.env, "RINGWAY_LOOKUP": cluster.url})


@pytest.mark.parametrize("digest", ["", "ringway:a-typo"])
def test_a_process_without_the_clusters_digest_says_so_in_one_line(own_redis: RealRedis, digest: str) -> None:
    with RealZooKeeper() as server:
        env = {"RINGWAY_ZOOKEEPER_DIGEST": "ringway:a-secret"}
        wrong = {"RINGWAY_ZOOKEEPER_DIGEST": digest}
        with Cluster(zookeeper=server.address, redis=own_redis.url, nodes=1, env=env) as cluster:
            node = _run("ringway.ws_server", cluster.env | wrong)
            assert (node.returncode, node.stderr.splitlines()[-1].startswith(_complaint(digest))) == (2, True)
            assert "Traceback" not in node.stderr
            lookup = cluster.add_lookup(env=wrong)
            wait_until(lambda: lookup.get("/readyz").json().get("zookeeper_problem"), 10.0)
            answer = lookup.get("/readyz").json()
            assert (answer["ready"], answer["zookeeper"]) == (True, True)  # it reads, and answers
            assert answer["zookeeper_problem"].startswith(_complaint(digest))
            wait_until(lambda: metric(lookup.get("/metrics").text, "ringway_lookup_zookeeper_access_problem"), 5.0)
            said = lookup.log.read_text()
            assert (said.count("ALARM"), said.count("Traceback")) == (1, 0)


def _run(module: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", module]
    return subprocess.run(run, env=os.environ | env, capture_output=True, text=True, timeout=60, check=False)


def _complaint(digest: str) -> str:
    shown = "ringway:***" if digest else "(not set)"
    return f"RINGWAY_ZOOKEEPER_DIGEST='{shown}': may not write under /ringway/"


def _strangers_read_but_do_not_write(address: str, cluster: str) -> None:
    root = f"/ringway/{cluster}"
    stranger = KazooClient(address)
    stranger.start()
    try:
        assert b"node-1" in stranger.get(f"{root}/nodes/node-1")[0]
        assert b"node-1" in stranger.get(f"{root}/ring")[0]
        candidates = [f"{root}/leader/{name}" for name in stranger.get_children(f"{root}/leader")]
        assert len(candidates) == 2
        for path in (f"{root}/nodes/node-1", f"{root}/ring", *candidates):
            with pytest.raises(NoAuthError):
                stranger.set(path, b"theirs")
            with pytest.raises(NoAuthError):
                stranger.delete(path)
        for path in (f"{root}/nodes/node-9", f"{root}/leader/0000", f"{root}/orders"):
            with pytest.raises(NoAuthError):
                stranger.create(path, b"theirs")
    finally:
        stranger.stop()
        stranger.close()


def _doctor_agrees(env: dict[str, str]) -> None:
    run = [sys.executable, "-c", "from ringway.cli import main; main()", "doctor"]
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all parts agree" in done.stdout
