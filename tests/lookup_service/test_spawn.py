"""Workers that are spawned share no memory with the parent: macOS has no others, and granian from Python 3.14 on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.lookup_service.orphans import assert_they_end
from tests.lookup_service.registered import Cluster, Lookup, eventually

SCRIPT = Path(__file__).with_name("spawned.py")


@pytest.fixture
def cluster(zookeeper: str, redis_url: str, cluster_name: str) -> Iterator[Cluster]:
    with Cluster(zookeeper, redis_url, cluster_name) as cluster:
        yield cluster


def spawned(cluster: Cluster) -> Lookup:
    env = {**cluster.env, "RINGWAY_WORKERS": "2", "RINGWAY_LOG_LEVEL": "info"}
    lookup = Lookup(cluster.processes.start("lookup", [sys.executable, str(SCRIPT)], env))
    cluster.lookups.append(lookup)
    return lookup


def workers(lookup: Lookup) -> set[int]:
    """multiprocessing's tracker of resources is a child too."""
    return {child.pid for child in psutil.Process(lookup.child.pid).children() if "spawn_main" in _command(child)}


def _command(process: psutil.Process) -> str:
    """Nothing where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_they_answer_alike_and_add_up_and_are_replaced(cluster: Cluster) -> None:
    lookup = spawned(cluster)
    zk = cluster.node("n1").zk
    cluster.node("n2")
    eventually(lambda: all(lookup.active() == {"n1", "n2"} for _ in range(8)))
    owners = {lookup.route("alice")["node"] for _ in range(8)}
    assert len(owners) == 1
    eventually(lambda: 'routes_total{outcome="route"} 8.0' in lookup.get("/metrics").text)
    candidates = zk.path("leader")
    before = set(eventually(lambda: len(found := zk.children(candidates)) == 2 and found))
    victim, other = sorted(workers(lookup))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(workers(lookup) - {victim}) == 2)
    eventually(lambda: all({lookup.route("alice")["node"]} == owners for _ in range(8)))
    assert f'ringway_lookup_ring_epoch{{pid="{other}"}}' in lookup.get("/metrics").text  # the living keep their figures
    eventually(lambda: len(set(zk.children(candidates)) & before) == 1)  # the victim's session has ended


def test_they_log_as_the_parent_does(cluster: Cluster) -> None:
    lookup = spawned(cluster)
    eventually(lambda: any("INFO ringway.lookup_service." in line for line in lookup.child.lines))


def test_they_end_with_the_parent(cluster: Cluster) -> None:
    lookup = spawned(cluster)
    pids = workers(lookup)
    assert len(pids) == 2
    lookup.child.stopping = True
    lookup.child.send(signal.SIGTERM)
    assert lookup.child.wait(5.0)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_they_end_in_order_when_the_parent_is_killed(cluster: Cluster) -> None:
    assert_they_end([sys.executable, str(SCRIPT)], cluster.env, ready=True, children=3)  # with the resource tracker
