"""The lookup as its users run it: processes under granian, on a real ZooKeeper and a real Redis."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.ring import Ring
from ringway.core.tickets import verify
from tests.harness import web
from tests.harness.crowd import allow_files
from tests.harness.redises import RealRedis
from tests.harness.workers import Workers
from tests.harness.zookeepers import DevServerZooKeeper, RealZooKeeper
from tests.lookup_service.helpers import HASHING
from tests.lookup_service.orphans import assert_they_end
from tests.lookup_service.registered import Cluster, Lookup, eventually
from tests.lookup_service.test_routing import ODD_UIDS

NODES = {"n1", "n2", "n3"}
UIDS = [f"user-{i}" for i in range(60)]
KEYS = KeyRing.parse(DEVELOPMENT_KEYS)


@pytest.fixture
def cluster(zookeeper: str, redis_url: str, cluster_name: str) -> Iterator[Cluster]:
    with Cluster(zookeeper, redis_url, cluster_name) as cluster:
        yield cluster


def workers(lookup: Lookup) -> list[psutil.Process]:
    return psutil.Process(lookup.child.pid).children()


def raw(lookup: Lookup, target: bytes) -> bytes:
    """The answer to a request line that no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", urlsplit(lookup.url).port or 0), timeout=5) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_route_names_the_owner_and_carries_a_ticket_for_it(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    answer = lookup.route("alice")
    ticket = verify(answer["ticket"], KEYS, node=answer["node"], now=time.time())
    assert (ticket.uid, ticket.version.epoch) == ("alice", answer["epoch"])
    assert answer["url"] == f"{cluster.nodes[answer['node']].url}?ticket={answer['ticket']}"
    assert not answer["stale"]


def test_odd_uids_over_the_wire(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    ring = Ring.build(dict.fromkeys(NODES, 256), HASHING)
    for uid in ODD_UIDS:
        answer = lookup.get("/route", uid=uid).json()
        assert (answer["uid"], answer["node"]) == (uid, ring.owner(uid))
    unescaped = raw(lookup, "/route?uid=用户7".encode())
    assert f'"node":"{ring.owner("用户7")}"'.encode() in unescaped
    for target in (b"/route", b"/route?uid=", b"/route?uid=%00", b"/route?uid=%ff", b"/route?uid=" + b"x" * 257,
                   b"/route?uid=" + quote("é" * 129).encode()):  # fmt: skip
        answer = raw(lookup, target)
        assert answer.startswith(b"HTTP/1.1 400"), target
        assert b'{"error":"bad_uid","message":"uid=' in answer


def test_lookups_and_workers_agree(cluster: Cluster) -> None:
    first, second = cluster.lookup(RINGWAY_WORKERS="2"), cluster.lookup(RINGWAY_WORKERS="2")
    for node in NODES:
        cluster.node(node)
    seen: dict[str, set[tuple[str, int]]] = {uid: set() for uid in UIDS}
    for lookup in (first, second):
        eventually(lambda at=lookup: all(at.active() == NODES for _ in range(8)))  # type: ignore[misc]
        asked = Workers(lookup.child.pid)
        for uid in UIDS:
            with web.client() as client:  # a new connection each, so that the kernel picks any worker
                answer = client.get(f"{lookup.url}/route", params={"uid": uid})
                asked.note(answer)
            seen[uid].add((answer.json()["node"], answer.json()["epoch"]))
        assert len(asked.answered) == 2
    assert all(len(answers) == 1 for answers in seen.values())


def test_a_leave_and_a_join_move_only_what_they_must(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    before = {uid: lookup.route(uid)["node"] for uid in UIDS}
    cluster.nodes["n2"].close()
    eventually(lambda: lookup.active() == NODES - {"n2"})
    after = {uid: lookup.route(uid)["node"] for uid in UIDS}
    assert {uid for uid in UIDS if before[uid] != after[uid]} == {uid for uid in UIDS if before[uid] == "n2"}


def test_a_worker_that_dies_is_replaced_and_its_gauges_go(cluster: Cluster) -> None:
    lookup = cluster.lookup(RINGWAY_WORKERS="2")
    node = cluster.node("n1")
    eventually(lambda: lookup.active() == {"n1"})
    candidates = node.zk.path("leader")
    before = set(eventually(lambda: len(found := node.zk.children(candidates)) == 2 and found))
    victim = workers(lookup)[0].pid
    eventually(lambda: f'epoch{{pid="{victim}"}}' in lookup.get("/metrics").text)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len({p.pid for p in workers(lookup) if p.status() != "zombie"} - {victim}) == 2)
    eventually(lambda: f'pid="{victim}"' not in lookup.get("/metrics").text)
    eventually(lambda: all(lookup.active() == {"n1"} for _ in range(8)))
    eventually(lambda: len(set(node.zk.children(candidates)) & before) == 1)  # the victim's session has ended


def test_metrics_add_up_over_the_workers(cluster: Cluster) -> None:
    lookup = cluster.lookup(RINGWAY_WORKERS="2")
    cluster.node("n1")
    eventually(lambda: all(lookup.active() == {"n1"} for _ in range(8)))
    for uid in UIDS:
        lookup.route(uid)
    wanted = f'ringway_lookup_routes_total{{outcome="route"}} {len(UIDS)}.0'  # whichever worker is asked
    eventually(lambda: all(wanted in lookup.get("/metrics").text for _ in range(6)), 3.0)

    def publishers() -> list[str]:
        lines = lookup.get("/metrics").text.splitlines()
        return sorted(line.split()[-1] for line in lines if line.startswith("ringway_lookup_publisher{"))

    eventually(lambda: publishers() == ["0.0", "1.0"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_with_streams_open_and_leaves_no_process(cluster: Cluster, number: signal.Signals) -> None:
    lookup = cluster.lookup(RINGWAY_WORKERS="2")
    children = workers(lookup)
    ended = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{lookup.url}/events", timeout=10.0) as answer:
            for _ in answer.iter_bytes():
                pass
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    eventually(lambda: "ringway_lookup_sse_listeners 1.0" in lookup.get("/metrics").text)
    began = time.monotonic()
    lookup.child.stopping = True
    lookup.child.send_group(number) if number == signal.SIGINT else lookup.child.send(number)  # Ctrl-C goes to all
    assert lookup.child.wait(5.0)
    assert time.monotonic() - began < 2.5
    assert lookup.child.popen.returncode == 0
    listener.join(5)
    assert ended.is_set()
    assert not [process for process in children if process.is_running() and process.status() != "zombie"]


@pytest.mark.parametrize("when", ["ready", "starting"])
def test_workers_end_in_order_when_the_parent_is_killed(cluster: Cluster, when: str) -> None:
    command = [sys.executable, "-m", "ringway.lookup_service"]
    assert_they_end(command, cluster.env, ready=when == "ready", children=2)


def test_a_taken_port_and_bad_options_are_one_line(cluster: Cluster) -> None:
    lookup = cluster.lookup()
    port = urlsplit(lookup.url).port
    cases = {
        "RINGWAY_PORT": (str(port), f"RINGWAY_PORT={port}: cannot be listened on at 127.0.0.1"),
        "RINGWAY_AUTH": ("nobody", "RINGWAY_AUTH='nobody': must be development, jwt or module:callable"),
        "RINGWAY_WORKERS": ("0", "RINGWAY_WORKERS='0': must be a whole number, 1 to 64"),
        "RINGWAY_ORIGINS": ("app.test", "RINGWAY_ORIGINS='app.test': must be origins like"),
        "RINGWAY_API_KEYS": ("short", "RINGWAY_API_KEYS='***': must be secrets of 16 or more"),
    }
    for variable, (value, message) in cases.items():
        environment = {**os.environ, **cluster.env, variable: value}
        with pytest.raises(AssertionError) as failed:
            run_lookup(environment)
        assert message in str(failed.value)
        assert "exit 2" in str(failed.value)


def run_lookup(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringway.lookup_service"], env=environment, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(lines) != 1, f"exit {done.returncode}: {lines[0]}"


def test_avoid_of_a_killed_node_finds_the_next_long_before_the_session_ends(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    uid = next(uid for uid in UIDS if lookup.route(uid)["node"] == "n2")
    cluster.nodes["n2"].livez.stop()  # its znode stays: the process is dead, the session lives on
    began = time.monotonic()
    answer = lookup.route(uid, avoid="n2")
    assert time.monotonic() - began < 1.0
    assert (answer["node"], answer["reason"]) == (answer["candidates"][1], "softdown")
    assert lookup.active() == NODES  # a mark changes no ring


def test_another_lookup_learns_of_the_mark(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    other = cluster.lookup()
    eventually(lambda: other.active() == NODES)
    uid = next(uid for uid in UIDS if lookup.route(uid)["node"] == "n2")
    cluster.nodes["n2"].livez.stop()
    lookup.route(uid, avoid="n2")
    eventually(lambda: other.route(uid)["reason"] == "softdown", 3.0)


def test_a_crowd_that_avoids_a_dead_node_makes_few_probes(cluster: Cluster) -> None:
    lookup = cluster.with_nodes(*NODES)
    livez = cluster.nodes["n2"].livez
    mine = [uid for uid in UIDS if lookup.route(uid)["node"] == "n2"]
    before = livez.probed
    with httpx.Client() as client:
        for _ in range(10):
            for uid in mine:
                assert client.get(f"{lookup.url}/route", params={"uid": uid, "avoid": "n2"}).json()["node"] == "n2"
    assert livez.probed - before <= 5


def test_routes_go_on_while_zookeeper_is_away(
    own_zookeeper: RealZooKeeper | DevServerZooKeeper, redis_url: str, cluster_name: str
) -> None:
    with Cluster(own_zookeeper.address, redis_url, cluster_name) as cluster:
        lookup = cluster.with_nodes(*NODES)
        before = {uid: lookup.route(uid)["node"] for uid in UIDS}
        epoch = lookup.route("alice")["epoch"]
        own_zookeeper.kill()
        answer = eventually(lambda: (a := lookup.route("alice"))["stale"] and a)
        assert answer["age_s"] >= 0
        assert {uid: lookup.route(uid)["node"] for uid in UIDS} == before
        assert lookup.get("/readyz").json()["zookeeper"] is False
        behind = lookup.get("/route", uid="alice", min_epoch=f"{answer['gen']}.{epoch + 1}")
        assert (behind.status_code, behind.json()["error"]) == (503, "replica_behind")

        late = cluster.lookup()  # starts from the copy in Redis
        answer = late.route("alice")
        assert (answer["stale"], answer["epoch"]) == (True, epoch)
        assert {uid: late.route(uid)["node"] for uid in UIDS} == before

        own_zookeeper.restart()
        for at in (lookup, late):
            eventually(lambda at=at: not at.route("alice")["stale"], 30.0)  # type: ignore[misc]
        assert {uid: lookup.route(uid)["node"] for uid in UIDS} == before


def test_routes_go_on_while_redis_is_away(zookeeper: str, own_redis: RealRedis, cluster_name: str) -> None:
    with Cluster(zookeeper, own_redis.url, cluster_name) as cluster:
        lookup = cluster.with_nodes(*NODES)
        own_redis.kill()
        assert lookup.route("alice")["node"] in NODES
        uid = next(uid for uid in UIDS if lookup.route(uid)["node"] == "n2")
        cluster.nodes["n2"].livez.stop()
        assert lookup.route(uid, avoid="n2")["reason"] == "softdown"
        answer = lookup.get("/unread", uid="alice")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        cluster.node("n4")
        eventually(lambda: "n4" in lookup.active())
        assert lookup.get("/readyz").status_code == 200
        eventually(lambda: lookup.get("/readyz").json()["redis"] is False)
        own_redis.restart()
        eventually(lambda: lookup.get("/readyz").json()["redis"])


def test_a_client_is_answered_beside_a_crowd_that_keeps_its_connections(cluster: Cluster) -> None:
    if not allow_files(2_000):
        pytest.skip("the system does not allow so many open files")
    lookup = cluster.lookup()
    at = ("127.0.0.1", urlsplit(lookup.url).port or 0)
    with contextlib.ExitStack() as kept:
        for _ in range(1_300):
            client = kept.enter_context(socket.create_connection(at, timeout=5))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_a_burst_gets_slots_and_no_node_more_than_its_share(cluster: Cluster) -> None:
    lookup = cluster.lookup(RINGWAY_CONNECTS_PER_NODE="20")
    cluster.node("n1")
    eventually(lambda: lookup.active() == {"n1"})
    began = time.monotonic()
    with httpx.Client() as client:
        answers = [client.get(f"{lookup.url}/route", params={"uid": f"crowd-{i}"}) for i in range(300)]
        took = time.monotonic() - began
    given = [a.json()["connect_after_ms"] for a in answers if a.status_code == 200]
    refused = [a for a in answers if a.status_code != 200]
    assert max(given) <= 10_000
    assert abs(len(given) - (2 + 20 * (10 + took))) < 25
    assert {(a.status_code, a.json()["error"]) for a in refused} == {(429, "too_many_connects")}
    assert all(int(a.headers["Retry-After"]) >= 1 for a in refused)
    assert len({a.headers["Retry-After"] for a in refused}) > 1  # jitter


def certify(cert: Path, key: Path) -> None:
    """A new certificate, signed by itself."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)


def test_https(cluster: Cluster, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certify(cert, key)
    lookup = cluster.lookup(RINGWAY_TLS_CERT=str(cert), RINGWAY_TLS_KEY=str(key))
    assert lookup.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    assert httpx.get(f"{lookup.url}/livez", verify=context).json() == {"ok": True}


def routed(lookup: Lookup, trust: ssl.SSLContext) -> bool:
    """Whether both workers, which the kernel picks from, give routes."""
    answers = [httpx.get(f"{lookup.url}/route", params={"uid": "a"}, verify=trust) for _ in range(8)]
    return all(answer.status_code == 200 for answer in answers)


def test_sighup_replaces_the_workers_and_so_the_certificate(cluster: Cluster, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certify(cert, key)
    lookup = cluster.lookup(RINGWAY_TLS_CERT=str(cert), RINGWAY_TLS_KEY=str(key), RINGWAY_WORKERS="2")
    cluster.node("n1")
    eventually(lambda: routed(lookup, ssl.create_default_context(cafile=str(cert))))
    before = {worker.pid for worker in workers(lookup)}
    certify(cert, key)
    lookup.child.send(signal.SIGHUP)
    renewed = ssl.create_default_context(cafile=str(cert))
    eventually(lambda: not before & {worker.pid for worker in workers(lookup) if worker.status() != "zombie"}, 20.0)
    eventually(lambda: routed(lookup, renewed))
