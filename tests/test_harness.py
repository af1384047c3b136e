"""The test servers themselves: a harness that lies would make every test above it worthless."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
import redis
from docker.errors import DockerException  # type: ignore[import-untyped]
from kazoo.client import KazooClient

from tests.harness import redises, zookeeper_java, zookeepers
from tests.harness.leaks import Resources, leaked
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Ensemble, RealZooKeeper, expire_session

needs_java = pytest.mark.skipif(not zookeeper_java.available(), reason="no Java or no ZooKeeper on this machine")


@needs_java
def test_a_real_zookeeper_keeps_its_data_over_kill_and_start_and_loses_it_by_wipe() -> None:
    with RealZooKeeper() as server:
        client = KazooClient(server.address, connection_retry={"max_tries": -1, "delay": 0.05, "max_delay": 0.2})
        client.start()
        client.create("/kept", b"1")
        server.restart()
        assert client.retry(client.get, "/kept")[0] == b"1"
        client.stop()
        server.wipe()
        client.start()
        assert client.exists("/kept") is None
        client.stop()
        client.close()


@needs_java
def test_a_server_picks_other_ports_when_its_own_were_taken() -> None:
    server = RealZooKeeper()
    with socket.create_server(("127.0.0.1", server.port)) as thief, server:
        assert server.port != thief.getsockname()[1]
        assert "Mode: standalone" in server.srvr()


@needs_java
def test_an_ensemble_loses_its_leader_and_gains_another() -> None:
    with Ensemble() as ensemble:
        client = KazooClient(ensemble.address, timeout=4.0)
        client.start()
        client.create("/a", b"1")
        first = ensemble.wait_leader()
        ensemble.kill(first)
        assert ensemble.wait_leader() != first
        assert client.retry(client.get, "/a")[0] == b"1"
        ensemble.restart(first)
        ensemble.wait_leader()
        assert first in ensemble.followers()
        ensemble.freeze(first)
        assert first not in ensemble.followers()
        ensemble.thaw(first)
        wait_until(lambda: first in ensemble.followers(), 10)
        client.stop()
        client.close()


@needs_java
def test_tls_lets_in_who_has_a_certificate_of_the_authority() -> None:
    with RealZooKeeper(tls=True) as server:
        files = server.certificates
        assert files is not None
        tls = {"ca": str(files.ca), "certfile": str(files.cert), "keyfile": str(files.key), "check_hostname": True}
        client = KazooClient(server.tls_address, use_ssl=True, **tls)
        client.start()
        assert client.exists("/") is not None
        client.stop()
        client.close()
        # Not by kazoo: the exceptions in its log records, which pytest keeps, would hold the refused sockets.
        context = ssl.create_default_context(cafile=str(files.ca))
        raw = socket.create_connection(("127.0.0.1", server.tls_port))
        with pytest.raises(ssl.SSLError), context.wrap_socket(raw, server_hostname="localhost") as stranger:
            stranger.recv(1)


def test_expire_session_ends_exactly_that_session(zookeeper: str) -> None:
    victim, witness = KazooClient(zookeeper), KazooClient(zookeeper)
    states: list[str] = []
    for client in (victim, witness):
        client.start()
    victim.add_listener(states.append)
    before = victim.client_id[0], witness.client_id[0]
    expire_session(victim)
    wait_until(lambda: states == ["SUSPENDED", "LOST", "CONNECTED"], 10)
    assert victim.client_id[0] != before[0]
    assert witness.client_id[0] == before[1]
    for client in (victim, witness):
        client.stop()
        client.close()


def test_a_durable_redis_keeps_its_data_over_kill_and_a_wiped_one_does_not() -> None:
    with redises.RealRedis(durable=True) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", 1)
        server.restart()
        assert client.get("a") == b"1"
        server.wipe()
        assert client.get("a") is None


def test_a_frozen_redis_answers_after_the_thaw() -> None:
    with redises.RealRedis() as server, redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        assert client.ping()
        server.freeze()
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        server.thaw()
        assert client.ping()


def test_choose_takes_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGWAY_TEST_ZOOKEEPER", "zk.example:2181")
    monkeypatch.setenv("RINGWAY_TEST_REDIS", "redis://redis.example:6379/0")
    for choice in (zookeepers.choose(), redises.choose()):
        assert choice.real
        assert "example" in choice.sentence


def test_choose_falls_back_to_the_embedded_servers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RINGWAY_TEST_ZOOKEEPER", "RINGWAY_TEST_ZOOKEEPER_IMAGE", "RINGWAY_TEST_REDIS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    for choice in (zookeepers.choose(), redises.choose()):
        assert not choice.real
        assert "EMBEDDED" in choice.sentence
        with choice.make():
            pass


def test_a_named_image_without_an_engine_is_an_error_and_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGWAY_TEST_ZOOKEEPER", raising=False)
    monkeypatch.setenv("RINGWAY_TEST_ZOOKEEPER_IMAGE", "some-image")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    choice = zookeepers.choose()
    assert "some-image" in choice.sentence
    with pytest.raises(DockerException):
        choice.make()


def test_leaks_are_seen_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.leaks.SETTLE_S", 0.2)
    before, ended = Resources.now(), threading.Event()
    thread = threading.Thread(target=ended.wait, name="left-behind")
    thread.start()
    with socket.socket():
        found = leaked(before, Resources({}))
    ended.set()
    thread.join()
    assert any("left-behind" in each for each in found)
    assert any(each.startswith("socket:") for each in found)
    assert leaked(before, Resources({})) == []


def test_waiting_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="the moon is full; last answer: 0"):
        wait_until(lambda: 0, 0.05, "the moon is full")
