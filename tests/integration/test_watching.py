"""What an operator sees: metrics of the ring on each part, rings as they come, the doctor who names the culprit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from kazoo.client import KazooClient

from ringway.processes import Processes
from tests.harness import web
from tests.harness.agreement import wait_agreed
from tests.harness.clients import PlainClients
from tests.harness.cluster import Cluster, metric
from tests.harness.delays import DelayProxy
from tests.harness.redises import RealRedis
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Stoppable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
KEYS = "k1:of-this-cluster-alone"
SESSIONS = 60
RINGWAY = [sys.executable, "-c", "from ringway.cli import main; main()"]


@pytest.fixture
def cluster(own_zookeeper: Stoppable, own_redis: RealRedis) -> Iterator[Cluster]:
    env = {"RINGWAY_KEYS": KEYS, "RINGWAY_ZOOKEEPER_TIMEOUT": "6", "RINGWAY_MOVE_DEADLINE": "2"}
    env |= {"RINGWAY_GUARD_LOSS_WINDOW": "1"}  # who is missing leaves, also when the publisher is young
    with Cluster(zookeeper=own_zookeeper.address, redis=own_redis.url, nodes=2, lookups=2, env=env) as running:
        wait_agreed(running)
        yield running


def doctor(cluster: Cluster, keys: str = KEYS) -> tuple[int, str]:
    """Exit code and findings of `ringway doctor`: what follows the table."""
    env = {**cluster.env, "RINGWAY_KEYS": keys, "RINGWAY_LOOKUP": ",".join(each.url for each in cluster.lookups)}
    done = subprocess.run([*RINGWAY, "doctor"], env=env, capture_output=True, text=True, timeout=90, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.rpartition("\n\n")[2]


def test_the_doctor_names_who_disagrees_and_why(
    cluster: Cluster, own_zookeeper: Stoppable, own_redis: RealRedis
) -> None:
    assert doctor(cluster) == (0, "all parts agree\n")
    first, second = cluster.lookups
    node = cluster.nodes["node-2"]

    def told(strike: Callable[[], object], heal: Callable[[], object], *findings: str) -> None:
        strike()
        try:
            code, text = doctor(cluster)
        finally:
            heal()
        print(text)
        assert code == 1
        for finding in findings:
            assert finding in text
        wait_agreed(cluster)

    told(second.freeze, second.thaw, f"lookup {second.url}: does not answer")
    told(node.freeze, node.thaw, "node node-2: does not answer")
    away = "cannot reach ZooKeeper: its ring is stale"
    told(own_zookeeper.stop, own_zookeeper.start, "zookeeper: ", "cannot be reached", f"lookup {first.url}: {away}",
         f"node node-1: {away}")
    told(own_redis.stop, own_redis.start, "redis: ", f"lookup {first.url}: cannot reach Redis",
         "node node-1: cannot reach Redis")
    wait_until(lambda: doctor(cluster)[0] == 0, 40.0, "healthy again", interval=1.0)


def test_the_doctor_finds_a_node_that_lives_although_nobody_lists_it(
    cluster: Cluster, own_zookeeper: Stoppable
) -> None:
    with DelayProxy(own_zookeeper.address) as way:
        lone = cluster.add_node("lone", env={"RINGWAY_ZOOKEEPER": way.address})
        way.cut()
        cluster.wait_gone("lone")
        code, text = doctor(cluster)
        way.mend()
        unlisted = "but not registered in ZooKeeper and not in the ring"
        assert (code, text) == (
            1, f"node lone: cannot reach ZooKeeper: its ring is stale; alive (answers), {unlisted}\n"
        )
        cluster.wait_active({"lone"})
        lone.freeze()
        cluster.wait_gone("lone")
        code, text = doctor(cluster)
        assert (code, text.startswith("node lone: does not answer")) == (1, True)
        assert f"alive (takes connections), {unlisted}" in text
        lone.kill()
    assert doctor(cluster) == (0, "all parts agree\n"), "who is dead and was forgotten is nobody's trouble"


def test_one_unreadable_record_of_a_node_hides_nothing_else(cluster: Cluster, own_zookeeper: Stoppable) -> None:
    client = KazooClient(own_zookeeper.address)
    client.start()
    client.create(f"/ringway/{cluster.name}/nodes/garbage", b"nonsense", ephemeral=True)
    try:
        code, text = doctor(cluster)
    finally:
        client.stop()
        client.close()
    assert code == 1
    assert text.startswith("zookeeper, nodes/garbage: ")
    assert "nonsense" in text
    assert text.count("\n") == 1, text


def test_the_doctor_waits_for_all_at_once(cluster: Cluster, own_zookeeper: Stoppable) -> None:
    for frozen in (cluster.lookups[1], own_zookeeper):
        frozen.freeze()
        try:
            since = time.monotonic()
            code, _ = doctor(cluster)
            took_s = time.monotonic() - since
        finally:
            frozen.thaw()
        assert code == 1
        assert took_s < 13.0, "two looks of at most 4 s, 1.5 s between them, and a process that starts and ends"


def test_the_doctor_names_who_has_another_key(cluster: Cluster) -> None:
    code, text = doctor(cluster, keys="k1:of-another-cluster")
    assert code == 1
    assert "zookeeper: " in text
    assert "is RINGWAY_KEYS that of the cluster?" in text
    cluster.add_node("stranger", wait=False, env={"RINGWAY_KEYS": "k1:of-another-cluster"})
    code, text = doctor(cluster)
    assert code == 1
    assert text.startswith("node stranger: has no ring: it has dropped ring documents (forged 1)")
    assert "stranger" not in cluster.active()  # it would refuse everybody's ticket


def numbers(text: str, part: str) -> dict[str, float]:
    names = ("ring_gen", "ring_epoch", "ring_checksum", "ring_age_seconds", "ring_members", "members")
    return {name: metric(text, f"ringway_{part}_{name}") for name in names}


def test_every_part_says_which_ring_it_has_and_what_became_of_it(cluster: Cluster, own_zookeeper: Stoppable) -> None:
    uids = [f"user-{i}" for i in range(60)]
    with PlainClients([each.url for each in cluster.lookups], uids) as crowd:
        cluster.add_node()
        ring, _ = wait_agreed(cluster)
        routes = web.post(f"{cluster.url}/routes", json={"uids": uids}).json()["routes"]
        owners = {route["uid"]: route["node"] for route in routes}
        wait_until(lambda: crowd.nodes() == owners, 15.0, "everybody on their owner")
        moved = len(crowd.told_to_move())

        def same() -> bool:
            texts = {each.url: web.get(f"{each.url}/metrics").text for each in cluster.lookups}
            found = [numbers(text, "lookup") for text in texts.values()]
            found += [numbers(web.get(f"{node.http}/metrics").text, "node") for node in cluster.nodes.values()]
            said = {(each["ring_gen"], each["ring_epoch"], each["ring_checksum"], each["ring_age_seconds"])
                    for each in found}  # fmt: skip
            members = {each["ring_members"] + each["members"] for each in found}
            return said == {(ring[0], ring[1], int(ring[2][:13], 16), 0.0)} and members == {3.0}

        wait_until(same, 5.0, "all metrics tell of the same ring")
        nodes = [web.get(f"{node.http}/metrics").text for node in cluster.nodes.values()]
        assert sum(metric(text, "ringway_node_moves_total", event="planned") for text in nodes) == moved > 0
        assert sum(metric(text, "ringway_node_moves_total", event="told") for text in nodes) == moved
        assert sum(metric(text, "ringway_node_moves_total", event="closed") for text in nodes) == moved
        assert sum(metric(text, "ringway_node_admitted_total", verdict="accept") for text in nodes) >= 60
        assert metric(nodes[0], "ringway_node_state", state="active") == 1
    lookups = "\n".join(web.get(f"{each.url}/metrics").text for each in cluster.lookups)
    assert metric(lookups, "ringway_lookup_publisher") == 1
    assert metric(lookups, "ringway_lookup_publisher_decisions", guard="join", action="admit") >= 1
    assert metric(lookups, "ringway_lookup_registered_nodes", state="active") == 3
    before = metric(cluster.lookups[0].get("/metrics").text, "ringway_lookup_refusals_total")
    cluster.lookups[0].get("/route")
    cluster.lookups[0].get("/route", uid="alice", min_epoch=f"{ring[0]}.{ring[1] + 1}")
    refused = web.get(f"{cluster.lookups[0].url}/metrics").text
    assert metric(refused, "ringway_lookup_refusals_total", cause="replica_behind") == 1
    assert metric(refused, "ringway_lookup_refusals_total") == before + 2
    web.get(f"{cluster.nodes['node-1'].http}/metrics")
    own_zookeeper.stop()
    wait_until(lambda: cluster.nodes["node-1"].metric("ringway_node_ring_age_seconds") > 1, 15.0)
    wait_until(lambda: metric(cluster.lookups[0].get("/metrics").text, "ringway_lookup_ring_age_seconds") > 1, 5.0)
    for name in ("ringway_lookup_publisher_guards", "ringway_lookup_publisher_decisions"):

        def frozen(name: str = name) -> float:
            texts = [each.get("/metrics").text for each in cluster.lookups]
            return sum(metric(text, name, guard="frozen", action="keep") for text in texts)

        wait_until(lambda frozen=frozen: frozen() == 1, 5.0, f"{name} of the guard")  # type: ignore[misc]
    logs = "".join(lookup.log.read_text() for lookup in cluster.lookups)
    assert "guard frozen: keep all: ZooKeeper cannot be read, so the ring stays as it is" in logs


def test_ring_watch_shows_each_ring_with_who_came_who_went_and_how_many_move(cluster: Cluster) -> None:
    with ExitStack() as stack:
        processes = stack.enter_context(Processes())
        urls = [lookup.url for lookup in cluster.lookups]
        crowd = stack.enter_context(PlainClients(urls, [f"watched-{number}" for number in range(SESSIONS)]))
        wait_until(lambda: sum(node["sessions"] or 0 for node in web.get(f"{urls[0]}/nodes").json()["nodes"])
                   == SESSIONS, 10.0, "the nodes have told of their sessions")  # fmt: skip
        lookups = ",".join(urls)
        watching = processes.start("watch", [*RINGWAY, "ring", "--watch", "--lookup", lookups])
        watching.wait_line(r"node-2 .*active", 20.0)
        cluster.add_node("node-3")
        what = r"ring \d+\.\d+: \+ node-3 \(active\); 3 active; ([\d.]+)% of all users move, about (\d+) sessions"
        joined = watching.wait_line(what, 10.0)
        assert 20 < float(joined[1]) < 47  # a third, give or take the spread of 256 points
        assert abs(int(joined[2]) - SESSIONS * float(joined[1]) / 100) < 0.2 * SESSIONS
        told = [int(watching.wait_line(rf"{node}: 0 sessions left to move, (\d+) told since", 15.0)[1])
                for node in ("node-1", "node-2")]  # fmt: skip
        assert sum(told) == len(crowd.told_to_move())
        cluster.nodes["node-1"].terminate()
        watching.wait_line(r"ring \d+\.\d+: node-1 state active -> draining; 2 active; [\d.]+% of all users move", 10.0)
        watching.wait_line(r"ring \d+\.\d+: - node-1; 2 active; 0.0% of all users move", 20.0)
        cluster.lookups[0].kill()  # it goes on with the other one
        cluster.add_node("node-4")
        watching.wait_line(r"ring \d+\.\d+: .*\+ node-4 \(active\); 3 active; [\d.]+% of all users move", 20.0)
