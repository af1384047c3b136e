"""`ringway dev`: starts everything as processes, says what happens to them, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.harness.dev import Dev, all_gone
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
RINGWAY = [sys.executable, "-c", "from ringway.cli import main; main()"]


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with Dev() as cluster:
        yield cluster


def active(dev: Dev) -> set[str]:
    members = httpx.get(f"{dev.lookup}/ring").json()["members"]
    return {member["id"] for member in members if member["state"] == "active"}


def test_it_prints_what_another_terminal_needs(dev: Dev) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", dev.variables["LOOKUP"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", dev.variables["RINGWAY_ZOOKEEPER"])
    assert re.fullmatch(r"redis://127\.0\.0\.1:\d+/0", dev.variables["RINGWAY_REDIS"])


def test_its_nodes_are_on_the_ring_and_routes_are_answered(dev: Dev) -> None:
    wait_until(lambda: {"node-1", "node-2", "node-3"} <= active(dev), 20.0)
    answer = httpx.get(f"{dev.lookup}/route", params={"uid": "alice"}).json()
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


def test_no_process_is_left_when_it_is_stopped_while_it_starts() -> None:
    starting = subprocess.Popen([*RINGWAY, "dev", "--port", "0"], stdout=subprocess.PIPE, text=True)
    with starting:
        assert starting.stdout is not None
        starting.stdout.readline()
        running = {str(p.pid): p for p in psutil.Process(starting.pid).children(recursive=True)}
        starting.send_signal(signal.SIGTERM)
        starting.communicate(timeout=30.0)
        all_gone(running)


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
