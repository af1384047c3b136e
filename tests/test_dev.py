"""`ringway dev`: starts everything as processes, says what happens to them, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import web
from tests.harness.dev import Dev, all_gone, none_with
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
RINGWAY = [sys.executable, "-c", "from ringway.cli import main; main()"]


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with Dev() as cluster:
        yield cluster


def active(dev: Dev) -> set[str]:
    members = web.get(f"{dev.lookup}/ring").json()["members"]
    return {member["id"] for member in members if member["state"] == "active"}


def test_it_prints_what_another_terminal_needs(dev: Dev) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", dev.variables["LOOKUP"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", dev.variables["RINGWAY_ZOOKEEPER"])
    assert re.fullmatch(r"redis://127\.0\.0\.1:\d+/0", dev.variables["RINGWAY_REDIS"])


def test_its_nodes_are_on_the_ring_and_routes_are_answered(dev: Dev) -> None:
    wait_until(lambda: {"node-1", "node-2", "node-3"} <= active(dev), 20.0)
    answer = web.get(f"{dev.lookup}/route", params={"uid": "alice"}).json()
    assert answer["node"] in active(dev)


def test_nothing_listens_beyond_loopback(dev: Dev) -> None:
    listening = [
        connection.laddr.ip
        for process in dev.descendants().values()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 6
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_another_node_joins_with_the_printed_variables(dev: Dev) -> None:
    node = dev.start_beside("node", [*RINGWAY, "node", "--node-id", "fourth"])
    node.wait_line(r"ringway node fourth ready", 30.0)
    wait_until(lambda: "fourth" in active(dev), 20.0)
    node.send(signal.SIGTERM)
    assert node.wait(30.0)
    assert node.popen.returncode == 0
    wait_until(lambda: "fourth" not in active(dev), 20.0)


def test_it_survives_kill_9_of_a_node_and_says_so() -> None:
    with Dev("--nodes", "2") as dev:
        wait_until(lambda: active(dev) == {"node-1", "node-2"}, 20.0)
        os.kill(dev.pid_of("node-2"), signal.SIGKILL)
        said = dev.wait_for(r"node-2 .*was killed by SIGKILL")
        assert "node --node-id node-2" in said
        wait_until(lambda: active(dev) == {"node-1"}, 30.0)
        assert dev.child.alive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left(number: signal.Signals) -> None:
    with Dev("--nodes", "2", "--lookups", "2") as dev:
        running = dev.descendants()
        assert len(running) >= 7  # guardian, ZooKeeper, Redis, two lookups, two nodes
        dev.child.send(number)
        assert dev.child.wait(20.0)
        all_gone(running)
        if number is not signal.SIGKILL:
            assert dev.child.popen.returncode == 0
            assert "everything is stopped" in dev.lines[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["zookeeper .*ready", "lookup-1 ", "lookup-2 .*ready", "node-1 ", "node-3 .*ready"])
def test_stopping_it_while_it_starts_is_no_failure_and_leaves_nothing(
    moment: str, number: signal.Signals, cluster_name: str, tmp_path: Path
) -> None:
    env = {"RINGWAY_CLUSTER": cluster_name, "TMPDIR": str(tmp_path)}
    with Dev("--lookups", "2", env=env, until=moment) as dev:
        dev.child.send(number)
        assert dev.child.wait(20.0)
        assert dev.child.popen.returncode == 0
        said = dev.lines[dev.lines.index(f"{number.name}; stopping") :]
        assert dev.lines[-1] == "everything is stopped"
        assert not [line for line in said if re.search("killed|exited|not start|is ready", line)]
        none_with("RINGWAY_CLUSTER", cluster_name)
        assert not list(tmp_path.glob("ringway-redis-*"))


@pytest.mark.parametrize(("server", "variable", "url"), [
    ("ZooKeeper", "RINGWAY_ZOOKEEPER", "127.0.0.1:1"), ("Redis", "RINGWAY_REDIS", "redis://:secret@127.0.0.1:1/0"),
])
def test_a_cluster_that_cannot_come_about_says_what_it_waits_for_and_is_never_called_ready(
    server: str, variable: str, url: str
) -> None:
    missing = f"waiting for node-1, node-2: {server} does not answer at {url.replace(':secret', '***')}"
    with Dev("--nodes", "2", env={variable: url}, until=re.escape(missing)) as dev:
        dev.child.send(signal.SIGINT)
        assert dev.child.wait(30.0)
        assert dev.child.popen.returncode == 0
        assert dev.lines[-1] == "everything is stopped"
        assert not [line for line in dev.lines if "cluster is ready" in line or "not start" in line]


def test_a_node_that_does_not_start_is_a_failure_that_says_so() -> None:
    with Dev("--nodes", "1", env={"RINGWAY_APP": "no_such_module:setup"}, until="the cluster did not start") as dev:
        assert dev.child.wait(30.0)
        assert dev.child.popen.returncode == 1
        said = dev.wait_for(r"node-1 .*exited with code")
        assert "It never was ready" in said
        assert "clients" not in said


def test_a_lookup_that_dies_is_to_be_started_at_its_port_again() -> None:
    with Dev("--nodes", "1", "--lookups", "2") as dev:
        port = dev.wait_for(r"lookup-2 .* ready url=").rpartition(":")[2]
        first, second = (p for p in psutil.Process(dev.child.pid).children() if "ringway.lookup_service" in p.cmdline())
        max(first, second, key=lambda process: process.pid).kill()  # the clock of their starts is too coarse
        assert dev.wait_for(r"lookup-2 .*was killed by SIGKILL").endswith(f"lookup --port {port}")


def test_a_taken_port_is_replaced_with_a_word() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Dev("--nodes", "1", "--port", str(port)) as dev:
            assert any(f"port {port} is taken" in line for line in dev.lines)
            assert not dev.lookup.endswith(f":{port}")


def test_real_servers_are_used_when_they_are_named(zookeeper: str, redis_url: str, cluster_name: str) -> None:
    env = {"RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis_url, "RINGWAY_CLUSTER": cluster_name}
    with Dev("--nodes", "1", env=env) as dev:
        assert dev.variables["RINGWAY_ZOOKEEPER"] == zookeeper
        assert not [line for line in dev.descendants() if "devserver" in line or "redis-server" in line]
        wait_until(lambda: active(dev) == {"node-1"}, 20.0)
