"""The supervised session. Row numbers are those of the measured list of kazoo's traps (background, section 2)."""

from __future__ import annotations

import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from kazoo.exceptions import BadVersionError, ConnectionLoss, NodeExistsError, NoNodeError
from kazoo.protocol.states import KazooState
from kazoo.retry import ForceRetryError

from ringway.core.errors import AccessDenied, ConfigError, Unavailable
from ringway.zookeeper.calls import CALL_TIMEOUT_S
from ringway.zookeeper.client import TlsOptions, ZooKeeper
from ringway.zookeeper.kazoo_client import FailFastClient
from tests.harness import zookeeper_java
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_java import Ensemble, RealZooKeeper
from tests.harness.zookeepers import Stoppable, expire_session
from tests.zookeeper.help import TIMEOUT_S, devserver, new_cluster, session, timed


@pytest.fixture
def real() -> Iterator[RealZooKeeper]:
    needs_java()
    with RealZooKeeper() as server:
        yield server


@pytest.fixture(scope="module")
def real_with_tls() -> Iterator[RealZooKeeper]:
    needs_java()
    with RealZooKeeper(tls=True) as server:
        yield server


def needs_java() -> None:
    if not zookeeper_java.available():
        pytest.skip("no Java or no zookeeper.jar on this machine")


def in_gevent(case: str, address: str) -> str:
    """Run one case of tests/zookeeper/gevent_cases.py in a monkey-patched process of its own."""
    command = [sys.executable, "-m", "tests.zookeeper.gevent_cases", case, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["devserver", "shared"])
def either(request: pytest.FixtureRequest, zookeeper: str) -> Iterator[str]:
    """host:port of the development server, and of the tests' server, which is a real one where that can be had."""
    if request.param == "devserver":
        with devserver() as server:
            yield server.address
    else:
        yield zookeeper


def drop(zk: ZooKeeper) -> None:
    """Cut the connection under the session."""
    zk.client._connection._socket.shutdown(socket.SHUT_RDWR)


def test_row_01_no_gap_between_attempts_is_longer_than_a_second_and_its_jitter() -> None:
    """kazoo's own policy is at more than six seconds after seven attempts, and goes on to an hour."""
    retry = ZooKeeper("127.0.0.1:1").client._connection.retry_sleeper.copy()
    gaps: list[float] = []
    retry.interrupt, retry.sleep_func = None, gaps.append

    def attempt() -> None:
        if len(gaps) < 100:
            raise ForceRetryError

    retry(attempt)
    assert len(gaps) == 100
    assert max(gaps) <= 1.0 * (1.0 + retry.max_jitter)


def test_row_01_comes_back_within_seconds_of_a_longer_outage(real: RealZooKeeper) -> None:
    with session(real.address) as zk:
        real.kill()
        wait_until(lambda: zk.disconnected_for(time.monotonic()) > 6.0, 15.0)  # kazoo's own delay would be 6.4 s now
        real.start()
        assert timed(lambda: wait_until(lambda: zk.connected, 10.0)) < 3.0


def test_row_02_an_outage_longer_than_the_timeout_keeps_the_session(real: RealZooKeeper) -> None:
    with session(real.address) as zk:
        before = zk.session_id
        zk.ensure_path(zk.path("nodes"))
        zk.create(zk.path("nodes", "n1"), ephemeral=True)
        real.kill()
        wait_until(lambda: zk.disconnected_for(time.monotonic()) > 2 * TIMEOUT_S, 15.0)
        assert zk.client.state == KazooState.SUSPENDED  # nobody tells that the session might be over
        real.start()
        wait_until(lambda: zk.connected, 10.0)
        assert (zk.session_id, zk.children(zk.path("nodes"))) == (before, ["n1"])


def test_row_03_calls_fail_at_once_without_a_connection_and_never_happen_later(real: RealZooKeeper) -> None:
    with session(real.address) as zk:
        real.kill()
        wait_until(lambda: not zk.connected, 10.0)
        for call in (partial(zk.create, "/later"), partial(zk.get, "/"), partial(zk.client.create, "/later")):
            began = time.monotonic()
            with pytest.raises((Unavailable, ConnectionLoss)):
                call()
            assert time.monotonic() - began < CALL_TIMEOUT_S / 2  # it did not wait for an answer
        real.start()
        wait_until(lambda: zk.connected, 10.0)
        zk.sync("/")
        assert zk.exists("/later") is None


def test_row_03_a_call_in_flight_fails_when_the_connection_goes() -> None:
    with devserver() as server, session(server.address) as zk:
        server.freeze()
        waiter = threading.Thread(target=server.drop)
        waiter.start()
        with pytest.raises(Unavailable):
            zk.call(lambda client: client.get_async("/"), 1.0)
        waiter.join()
        server.thaw()


def test_row_03_a_request_that_slipped_in_behind_the_loss_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes between the look whether it is there and kazoo's own append."""
    with devserver() as server, session(server.address) as zk:
        server.stop()
        wait_until(lambda: not zk.connected)
        looks = iter([True])
        test = threading.current_thread()
        connected = property(lambda _: threading.current_thread() is test and next(looks, False))
        with monkeypatch.context() as patched:
            patched.setattr(FailFastClient, "connected", connected, raising=False)
            result = zk.client.create_async("/later")
        assert list(looks) == []
        assert not zk.client._queue
        with pytest.raises(ConnectionLoss):
            result.get(timeout=5.0)
        server.start()


def test_row_04_under_gevent_timeouts_of_the_caller_stay_the_callers() -> None:
    with devserver() as server:
        in_gevent("timeouts", server.address)


def test_row_05_a_listener_may_make_calls(either: str) -> None:
    zk = ZooKeeper(either, timeout_s=TIMEOUT_S)
    seen: list[object] = []
    zk.add_session_listener(lambda _session, new: seen.append((new, zk.get("/")[0])))
    try:
        zk.start(5.0)
        wait_until(lambda: seen == [(True, b"")])
        drop(zk)
        wait_until(lambda: seen == [(True, b""), (False, b"")])
    finally:
        zk.stop()


def test_row_05_a_failing_listener_stops_neither_others_nor_supervision(
    either: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_session: int, _new: bool) -> None:
        raise TypeError("broken listener")

    seen: list[int] = []
    with session(either) as zk:
        wait_until(lambda: zk.counts["sessions"] == 1)
        zk.add_session_listener(fail)
        zk.add_session_listener(lambda session_id, _new: seen.append(session_id))
        for count in (1, 2):
            wait_until(lambda: zk.connected)
            drop(zk)
            wait_until(lambda count=count: len(seen) == count)  # type: ignore[misc]
    assert "broken listener" in caplog.text


def test_row_06_stop_inside_a_listener_does_not_deadlock_and_ends_the_session(either: str) -> None:
    cluster = new_cluster()
    stopped = threading.Event()
    zk = ZooKeeper(either, cluster=cluster, timeout_s=TIMEOUT_S)

    def stop(_session: int, _new: bool) -> None:
        zk.ensure_path(zk.path("nodes"))
        zk.create(zk.path("nodes", "n1"), ephemeral=True)
        zk.stop()
        stopped.set()

    zk.add_session_listener(stop)
    zk.start(5.0)
    assert stopped.wait(3.0)
    wait_until(lambda: zk.client.state == KazooState.LOST, 3.0)
    with session(either, cluster) as witness:
        assert witness.children(witness.path("nodes")) == []


def test_row_11_a_stall_longer_than_the_timeout_gives_a_new_session_and_the_entry_is_made_again(zookeeper: str) -> None:
    assert "registered again" in in_gevent("stall", zookeeper)


def test_row_12_a_wiped_server_is_joined_again_by_a_new_session(real: RealZooKeeper) -> None:
    with session(real.address, timeout_s=1.0) as zk:
        for _ in range(50):  # see a zxid that the wiped server will not have
            zk.ensure_path(zk.path("x"))
            zk.set(zk.path("x"), b"", -1)
        before = zk.session_id
        real.wipe()
        wait_until(lambda: zk.connected, 15.0, "the server says that it does not know the session")
        assert zk.session_id != before
        assert zk.counts["restarts"] == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_whose_connection_loop_died_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """kazoo ends the loop on an error that it does not know, and never begins another."""
    with devserver() as server, session(server.address, timeout_s=1.0) as zk:
        def fail(*_given: object) -> None:
            raise RuntimeError("an error that kazoo does not know")

        with monkeypatch.context() as patch:
            patch.setattr(zk.client._connection, "_connect", fail)
            drop(zk)
            wait_until(lambda: zk.disconnected_for(time.monotonic()) > 0.5, 5.0)
        wait_until(lambda: zk.connected, 15.0, "the watchdog starts the client anew")
        assert zk.counts["restarts"] == 1


def test_row_12_an_outage_without_a_reachable_server_is_no_reason_to_drop_the_session(real: RealZooKeeper) -> None:
    with session(real.address, timeout_s=3.0) as zk:
        before = zk.session_id
        real.kill()
        wait_until(lambda: zk.disconnected_for(time.monotonic()) > 9.0, 20.0)
        real.start()
        wait_until(lambda: zk.connected, 10.0)
        assert (zk.session_id, zk.counts["restarts"]) == (before, 0)


def test_row_12_a_frozen_server_is_no_reason_to_drop_the_session() -> None:
    """The port accepts all the while, so a TCP connection alone would prove nothing."""
    with devserver() as server, session(server.address, timeout_s=1.0) as zk:
        before = zk.session_id
        server.freeze()
        wait_until(lambda: zk.disconnected_for(time.monotonic()) > 5.0, 15.0)
        assert zk.counts["restarts"] == 0
        server.thaw()
        wait_until(lambda: zk.connected, 10.0)
        assert before is not None


def test_row_12_a_lost_quorum_is_no_reason_to_drop_the_session() -> None:
    """Servers without a quorum accept connections too, and grant nobody a session."""
    needs_java()
    with Ensemble() as ensemble, session(ensemble.address, timeout_s=2.0) as zk:
        zk.ensure_path(zk.path("nodes"))
        zk.create(zk.path("nodes", "n1"), ephemeral=True)
        before = zk.session_id
        for index in (0, 1):
            ensemble.kill(index)
        wait_until(lambda: zk.disconnected_for(time.monotonic()) > 8.0, 30.0)
        for index in (0, 1):
            ensemble.restart(index)
        assert timed(lambda: wait_until(lambda: zk.connected, 20.0)) < 10.0
        assert (zk.session_id, zk.counts["restarts"]) == (before, 0)
        assert zk.children(zk.path("nodes")) == ["n1"]


def test_a_killed_leader_of_an_ensemble_costs_no_session() -> None:
    needs_java()
    with Ensemble() as ensemble, session(ensemble.address, timeout_s=4.0) as zk:
        before, leader = zk.session_id, ensemble.leader()
        assert leader is not None
        ensemble.kill(leader)
        zk_path = zk.path("after")
        assert timed(lambda: wait_until(partial(ensured, zk, zk_path), 20.0, ignore=(Unavailable,))) < 10.0
        assert zk.session_id == before


def ensured(zk: ZooKeeper, path: str) -> bool:
    zk.ensure_path(path)
    return True


def test_row_13_a_new_session_id_is_noticed_without_lost() -> None:
    states: list[str] = []
    news: list[bool] = []
    with devserver() as server, session(server.address) as zk:
        wait_until(lambda: zk.counts["sessions"] == 1)
        zk.client.add_listener(states.append)
        zk.add_session_listener(lambda _session, new: news.append(new))
        server.amnesia()
        wait_until(lambda: news)
        assert news == [True]
        assert KazooState.LOST not in states


def test_an_expired_session_is_announced_as_new(zookeeper: str) -> None:
    news: list[bool] = []
    with session(zookeeper) as zk:
        wait_until(lambda: zk.counts["sessions"] == 1)
        zk.add_session_listener(lambda _session, new: news.append(new))
        expire_session(zk.client)
        wait_until(lambda: news == [True])


def test_row_14_gevent_without_monkey_patching_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ZooKeeper("127.0.0.1:1", handler="gevent")
    assert "without monkey-patching" in caplog.text


def test_row_14_looking_up_a_host_name_stops_no_other_greenlet() -> None:
    in_gevent("slow_names", "localhost:1")


def test_row_15_no_server_is_asked_for_a_read_only_session() -> None:
    """The last byte of what a client says first (ConnectRequest.readOnly)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        zk = ZooKeeper(f"127.0.0.1:{listener.getsockname()[1]}", timeout_s=TIMEOUT_S)
        zk.start(0.0)
        try:
            with listener.accept()[0] as connection, connection.makefile("rb") as stream:
                said = stream.read(int.from_bytes(stream.read(4)))
        finally:
            zk.stop()
    assert said[-1:] == b"\0"


@pytest.mark.parametrize("handler", ["threading", "gevent"])
def test_row_16_descriptors_above_1023_work(handler: str) -> None:
    """select() would fail with them; both handlers use selectors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    held = [os.dup(0) for _ in range(1100)]
    try:
        with devserver() as server:
            zk = ZooKeeper(server.address, handler=handler, timeout_s=TIMEOUT_S)
            try:
                assert zk.start(5.0)
                assert zk.get("/")[0] == b""
            finally:
                zk.stop()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_row_16_under_gevent_watches_calls_and_stop_work(zookeeper: str) -> None:
    in_gevent("everyday", zookeeper)


def test_row_17_a_failed_transaction_raises_the_first_failure_and_does_nothing(zookeeper: str) -> None:
    with session(zookeeper) as zk:
        here, there = zk.path("here"), zk.path("there")
        zk.ensure_path(here)
        cases = [
            (lambda t: (t.create(there, b""), t.check(here, 7)), BadVersionError),
            (lambda t: (t.create(there, b""), t.create(here, b"")), NodeExistsError),
            (lambda t: (t.check(zk.path("none"), 0), t.create(there, b"")), NoNodeError),
        ]
        for build, error in cases:
            with pytest.raises(error):
                zk.commit(build)
            assert zk.exists(there) is None
        assert zk.commit(lambda t: (t.check(here, 0), t.create(there, b"x"))) == [True, there]


def test_start_without_a_server_goes_on_trying() -> None:
    with devserver() as server:
        server.stop()
        zk = ZooKeeper(server.address, timeout_s=TIMEOUT_S)
        try:
            assert zk.start(0.2) is False
            assert zk.disconnected_for(time.monotonic()) > 0.0
            server.start()
            wait_until(lambda: zk.connected, 5.0)
            assert zk.disconnected_for(time.monotonic()) == 0.0
        finally:
            zk.stop()


def test_stop_ends_the_session_at_once(zookeeper: str) -> None:
    cluster = new_cluster()
    with session(zookeeper, cluster) as watcher:
        with session(zookeeper, cluster) as zk:
            zk.ensure_path(zk.path("nodes"))
            zk.create(zk.path("nodes", "n1"), ephemeral=True)
            assert watcher.children(zk.path("nodes")) == ["n1"]
        assert watcher.children(zk.path("nodes")) == []


def test_digest_lets_others_read_but_not_write(own_zookeeper: Stoppable) -> None:
    cluster, address = new_cluster(), own_zookeeper.address
    with session(address, cluster, digest="ringway:secret") as ours, session(address, cluster) as stranger:
        ours.ensure_path(ours.path("nodes"))
        ours.create(ours.path("nodes", "n1"), b"mine", ephemeral=True)
        assert stranger.get(ours.path("nodes", "n1"))[0] == b"mine"
        with pytest.raises(AccessDenied):
            stranger.set(ours.path("nodes", "n1"), b"theirs", -1)
        with pytest.raises(AccessDenied):
            stranger.delete(ours.path("nodes", "n1"))
        with pytest.raises(AccessDenied):
            stranger.create(ours.path("nodes", "n2"), ephemeral=True)
        ours.delete(ours.path("nodes", "n1"))


def test_clusters_with_different_passwords_share_a_server() -> None:
    with devserver() as server:
        with session(server.address, "one", digest="one:secret") as one:
            one.ensure_path(one.path("nodes"))
        with session(server.address, "two", digest="two:secret") as two:
            two.ensure_path(two.path("nodes"))
            with pytest.raises(AccessDenied):
                two.create(two.path("nodes", "n1").replace("two", "one"))


@pytest.mark.parametrize("options", [{"digest": "nocolon"}, {"cluster": "a/b"}, {"handler": "asyncio"}])
def test_options_that_cannot_work_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        ZooKeeper("127.0.0.1:1", **options)  # type: ignore[arg-type]


def connects_by_tls(server: RealZooKeeper, host: str, ca: str = "") -> bool:
    files = server.certificates
    assert files is not None
    tls = TlsOptions(ca or str(files.ca), str(files.cert), str(files.key))
    zk = ZooKeeper(f"{host}:{server.tls_port}", timeout_s=TIMEOUT_S, tls=tls)
    try:
        return zk.start(3.0)
    finally:
        zk.stop()


def test_tls_connects_to_the_server_that_the_certificate_names(real_with_tls: RealZooKeeper) -> None:
    assert connects_by_tls(real_with_tls, "127.0.0.1")


# kazoo's warnings carry the error and so its socket: captured, they would count as left behind.
def test_tls_refuses_a_server_whose_certificate_names_another(
    real_with_tls: RealZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "kazoo.client")
    assert not connects_by_tls(real_with_tls, "127.1")  # the same address by a name that is not in the certificate


def test_tls_refuses_a_server_of_another_authority(
    real_with_tls: RealZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "kazoo.client")
    files = real_with_tls.certificates
    assert files is not None
    assert not connects_by_tls(real_with_tls, "127.0.0.1", ca=str(files.cert))
