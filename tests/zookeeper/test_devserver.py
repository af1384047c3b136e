"""The embedded development server's own side: fault verbs, words on its port, its process, what it refuses."""

from __future__ import annotations

import logging
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from ringway.processes import Processes
from ringway.servers import start_zookeeper
from ringway.zookeeper.devserver import DevServer
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_raw import EPHEMERAL, EXISTS, RawSession, text

LOST_AND_BACK = [KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED]


@pytest.fixture
def server() -> Iterator[DevServer]:
    server = DevServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def zk(server: DevServer) -> Iterator[KazooClient]:
    retry = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2}
    client = KazooClient(server.address, timeout=2.0, connection_retry=retry)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def states(zk: KazooClient) -> list[str]:
    """The client's states from now on."""
    seen: list[str] = []
    zk.add_listener(seen.append)
    return seen


def say(address: str, word: str, timeout_s: float = 5.0) -> str:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(word.encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def test_expire_ends_one_session_and_no_other(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    zk.create("/e", ephemeral=True)
    with RawSession(server.address) as other:
        server.expire(other.id)
        assert other.packet() is None
        assert states == []
    server.expire(zk.client_id[0])
    wait_until(lambda: states == LOST_AND_BACK, 5)
    assert zk.exists("/e") is None


def test_expire_of_an_unknown_session_is_a_key_error(server: DevServer) -> None:
    with pytest.raises(KeyError):
        server.expire(1)


def test_drop_closes_connections_and_keeps_sessions(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    zk.create("/e", ephemeral=True)
    before = zk.client_id
    server.drop()
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED], 5)
    assert zk.client_id == before
    assert zk.exists("/e") is not None


def test_freeze_answers_nobody_and_expires_nobody_until_it_thaws(server: DevServer) -> None:
    with RawSession(server.address, timeout_ms=1000) as silent, RawSession(server.address, timeout_ms=9000) as asking:
        assert silent.create("/silent", EPHEMERAL) == 0
        server.freeze()
        asking.request(1, EXISTS, text("/silent") + b"\0")
        frozen_until = time.monotonic() + 1.2
        wait_until(lambda: time.monotonic() > frozen_until, 3)
        assert silent.id in server.sessions()
        asking.expect_silence(0.1)
        with pytest.raises(TimeoutError):
            say(server.address, "ruok", timeout_s=0.2)
        server.thaw()
        assert silent.id not in server.sessions()
        assert asking.answer()[2] == -101  # no node: its session expired with the thaw, before this was read


def test_a_client_that_connects_to_a_frozen_server_is_served_after_the_thaw(server: DevServer) -> None:
    server.freeze()
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as waiting:
        connect = struct.pack("!iqiqi", 0, 0, 4000, 0, 16) + bytes(16) + b"\0"
        waiting.sendall(struct.pack("!i", len(connect)) + connect)
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(4)
        server.thaw()
        waiting.settimeout(5.0)
        assert waiting.recv(4) == struct.pack("!i", 37)


def test_thaw_expires_whoever_is_overdue(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    server.freeze()
    frozen_until = time.monotonic() + 2.2
    wait_until(lambda: time.monotonic() > frozen_until, 4)
    server.thaw()
    wait_until(lambda: states == LOST_AND_BACK, 5)


def test_wipe_turns_away_whoever_has_seen_more(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    for number in range(10):
        zk.create(f"/{number}")
    server.wipe()
    wait_until(lambda: states == [KazooState.SUSPENDED], 5)
    assert server.sessions() == []
    with RawSession(server.address, last_zxid=zk.last_zxid) as stuck:
        assert stuck.granted_ms is None
    with RawSession(server.address) as fresh:
        assert fresh.create("/0", 0) == 0


def test_amnesia_gives_a_new_session_without_lost(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    """Row 13 of the background's table: only the session's id tells the client that its ephemerals are gone."""
    zk.create("/e", ephemeral=True)
    before = zk.client_id[0]
    server.amnesia()
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED], 5)
    assert zk.client_id[0] != before
    assert zk.exists("/e") is None


def test_stop_and_start_keep_address_data_and_sessions(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    zk.create("/e", b"kept", ephemeral=True)
    address, before = server.address, zk.client_id
    server.stop()
    wait_until(lambda: states == [KazooState.SUSPENDED], 5)
    server.start()
    wait_until(lambda: states[-1] == KazooState.CONNECTED, 5)
    assert (server.address, zk.client_id, zk.get("/e")[0]) == (address, before, b"kept")


def test_verbs_need_a_started_server() -> None:
    server = DevServer()
    with pytest.raises(RuntimeError, match="is not started"):
        server.drop()
    server.start()
    try:
        with pytest.raises(RuntimeError, match="already started"):
            server.start()
    finally:
        server.stop()
    server.stop()


def test_it_says_loudly_what_it_is_and_binds_loopback(caplog: pytest.LogCaptureFixture) -> None:
    server = DevServer()
    with caplog.at_level(logging.WARNING, logger="ringway.zookeeper.devserver"):
        server.start()
    server.stop()
    assert server.address.startswith("127.0.0.1:")
    assert "NOT FOR PRODUCTION" in caplog.text


def test_zookeepers_own_words(server: DevServer, zk: KazooClient) -> None:
    zk.create("/one")
    assert say(server.address, "ruok") == "imok"
    assert say(server.address, "ruok\n") == "imok"
    report = say(server.address, "srvr")
    assert "Mode: standalone" in report
    assert "Zxid: 0x2" in report


def test_verbs_as_words(server: DevServer, zk: KazooClient, states: list[str]) -> None:
    assert say(server.address, "rwcl") == f"{zk.client_id[0]:#x} 2000\n"
    assert say(server.address, f"rwex {zk.client_id[0]:x}\n") == "ok\n"
    wait_until(lambda: states == LOST_AND_BACK, 5)
    assert say(server.address, "rwfz") == "ok\n"
    assert say(server.address, "rwth") == "ok\n"
    for word in ("rwdr", "rwam", "rwwi"):
        states.clear()
        assert say(server.address, word) == "ok\n"
        wait_until(lambda: KazooState.SUSPENDED in states, 5)
        if word != "rwwi":
            wait_until(lambda: states[-1] == KazooState.CONNECTED, 5)


@pytest.mark.parametrize("line", ["rwex\n", "rwex xyz\n", "rwex 1\n"])
def test_a_word_about_no_session_says_so(server: DevServer, line: str) -> None:
    assert say(server.address, line).startswith("error: ")


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        struct.pack("!i", 1 << 30),
        struct.pack("!i", 3) + b"abc",
        struct.pack("!i", 0),
        b"\0\0\0",
    ],
)
def test_junk_ends_its_own_connection_and_nothing_else(server: DevServer, zk: KazooClient, junk: bytes) -> None:
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b""
    assert zk.exists("/") is not None


SHORT = [b"", b"\0\0\0\1", struct.pack("!iii", 1, 1, 500) + b"x", struct.pack("!iii", 1, 1, -1)]


@pytest.mark.parametrize("body", SHORT)
def test_a_malformed_request_ends_its_own_connection(server: DevServer, zk: KazooClient, body: bytes) -> None:
    with RawSession(server.address) as liar:
        liar.send(body)
        assert liar.packet() is None
    assert zk.exists("/") is not None


def test_an_operation_it_does_not_know_is_unimplemented(server: DevServer) -> None:
    with RawSession(server.address) as client:
        client.request(1, 999, b"")
        assert client.answer()[2] == -6


def test_a_thousand_ephemerals_end_with_their_session(server: DevServer, zk: KazooClient) -> None:
    zk.create("/nodes")
    for write in [zk.create_async(f"/nodes/{number}", ephemeral=True) for number in range(1000)]:
        write.get(timeout=10)
    fired: list[Any] = []
    with RawSession(server.address) as watcher:
        watcher.request(1, 8, struct.pack("!i", 6) + b"/nodes" + b"\1")
        watcher.answer()
        server.expire(zk.client_id[0])
        fired.append(watcher.event())
        watcher.request(2, 8, struct.pack("!i", 6) + b"/nodes" + b"\0")
        assert watcher.answer()[3] == struct.pack("!i", 0)
    assert fired == [(4, "/nodes")]


def test_a_slow_reader_gets_everything(server: DevServer, zk: KazooClient) -> None:
    """More than the socket's buffers hold waits in the server without holding up the others."""
    zk.create("/big", b"x" * 900_000)
    with RawSession(server.address) as slow:
        for xid in range(1, 21):
            slow.request(xid, 4, struct.pack("!i", 4) + b"/big" + b"\0")
        assert zk.get("/big")[0] == b"x" * 900_000
        for xid in range(1, 21):
            answered, _, code, body = slow.answer()
            assert (answered, code, len(body)) == (xid, 0, 4 + 900_000 + 68)


def test_as_a_process_it_prints_where_it_is_and_ends_on_sigterm() -> None:
    with Processes() as processes:
        child, address = start_zookeeper(processes)
        client = KazooClient(address, timeout=2.0)
        client.start()
        client.create("/a", b"1")
        client.stop()
        client.close()
        child.send(signal.SIGTERM)
        assert child.wait(5.0)
        assert child.popen.returncode == 0
        assert any("NOT FOR PRODUCTION" in line for line in child.lines)


def test_a_taken_port_is_one_line(server: DevServer) -> None:
    with Processes() as processes:
        port = server.address.split(":")[1]
        child = processes.start("second", [sys.executable, "-m", "ringway.zookeeper.devserver", "--port", port])
        assert child.wait(10.0)
        assert child.popen.returncode == 1
        assert list(child.lines)[-1].startswith(f"Error: --port {port}: cannot listen on 127.0.0.1:{port}")


def test_it_runs_where_gevent_never_was() -> None:
    with Processes() as processes:
        check = "import sys, ringway.zookeeper.devserver; print('gevent' in sys.modules)"
        child = processes.start("check", [sys.executable, "-c", check])
        assert child.wait(10.0)
        assert list(child.lines) == ["False"]
