"""The contract's sessions: what lives on over a lost connection, what does not, and who is turned away."""

from __future__ import annotations

import socket
import time

from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from tests.contract.conftest import Connect
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_raw import EPHEMERAL, RawSession
from tests.harness.zookeepers import Provider, Stoppable, expire_session


def cut(client: KazooClient) -> None:
    """Breaks the client's connection under it."""
    client._connection._socket.shutdown(socket.SHUT_RDWR)


def test_an_ephemeral_belongs_to_its_session_and_ends_with_it(zk: KazooClient, other: KazooClient, root: str) -> None:
    other.create(f"{root}/e", ephemeral=True)
    found = zk.exists(f"{root}/e")
    assert found is not None
    assert found.ephemeralOwner == other.client_id[0]
    other.stop()
    assert zk.exists(f"{root}/e") is None


def test_a_session_and_its_ephemerals_survive_a_lost_connection(zk: KazooClient, other: KazooClient, root: str) -> None:
    states: list[str] = []
    other.add_listener(states.append)
    other.create(f"{root}/e", ephemeral=True)
    before = other.client_id
    cut(other)
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED], 10, "suspended, then connected")
    assert other.client_id == before
    assert zk.exists(f"{root}/e") is not None


def test_another_client_takes_a_session_over_by_its_id_and_password(
    server: Provider, connect: Connect, zk: KazooClient, root: str
) -> None:
    with RawSession(server.address) as first:
        assert first.create(f"{root}/e", EPHEMERAL) == 0
        heir = connect(server.address, client_id=(first.id, first.password))
        assert heir.client_id[0] == first.id
        assert first.packet() is None  # a session has one connection, the newest
    heir.stop()
    assert zk.exists(f"{root}/e") is None


def test_a_wrong_password_costs_the_owner_its_connection_but_not_its_session(
    server: Provider, zk: KazooClient, root: str
) -> None:
    states: list[str] = []
    zk.add_listener(states.append)
    zk.create(f"{root}/e", ephemeral=True)
    before = zk.client_id
    with RawSession(server.address, session=(before[0], b"w" * 16)) as thief:
        assert thief.granted_ms == 0
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED], 10, "suspended, then connected")
    assert zk.client_id == before
    assert zk.exists(f"{root}/e") is not None


def test_an_unknown_session_is_told_that_it_has_expired(server: Provider) -> None:
    with RawSession(server.address, session=(0x1234567890, b"p" * 16)) as ghost:
        assert ghost.granted_ms == 0
        assert ghost.packet() is None


def test_an_expired_client_hears_lost_and_gets_a_new_session(zk: KazooClient, other: KazooClient, root: str) -> None:
    states: list[str] = []
    other.add_listener(states.append)
    other.create(f"{root}/e", ephemeral=True)
    before = other.client_id[0]
    expire_session(other)
    wanted = [KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED]
    wait_until(lambda: states == wanted, 10, "suspended, lost, connected")
    assert other.client_id[0] != before
    assert zk.exists(f"{root}/e") is None


def test_silence_for_the_granted_time_ends_a_session(server: Provider, zk: KazooClient, root: str) -> None:
    with RawSession(server.address, timeout_ms=1) as silent:
        assert silent.granted_ms is not None
        assert silent.create(f"{root}/e", EPHEMERAL) == 0
        began = time.monotonic()
        granted = silent.granted_ms / 1000
        wait_until(lambda: zk.exists(f"{root}/e") is None, 2 * granted + 3, "the ghost's ephemeral is gone")
        assert time.monotonic() - began > granted - 0.1
        assert silent.packet() is None
    with RawSession(server.address, session=(silent.id, silent.password)) as late:
        assert late.granted_ms == 0


def test_the_server_bounds_the_timeout_that_a_client_asks_for(server: Provider) -> None:
    with RawSession(server.address, timeout_ms=1) as short, RawSession(server.address, timeout_ms=10_000_000) as long:
        assert short.granted_ms is not None
        assert long.granted_ms is not None
        assert 1 < short.granted_ms < long.granted_ms < 10_000_000
    with RawSession(server.address, timeout_ms=(short.granted_ms + long.granted_ms) // 2) as between:
        assert between.granted_ms == (short.granted_ms + long.granted_ms) // 2


def test_a_client_from_the_future_is_turned_away_without_an_answer(server: Provider) -> None:
    with RawSession(server.address, last_zxid=1 << 50) as future:
        assert future.granted_ms is None


def test_a_stopped_server_expires_nobody(
    stoppable: Stoppable, connect: Connect
) -> None:
    """Sessions get their whole time again when it is back, however long it was away."""
    zk = connect(stoppable.address, timeout=4.0)  # in which a server that has just started must answer
    states: list[str] = []
    zk.add_listener(states.append)
    zk.create("/e", ephemeral=True)
    before = zk.client_id[0]
    stoppable.kill()
    wait_until(lambda: states == [KazooState.SUSPENDED], 10, "suspended")
    back = time.monotonic() + 4.5
    wait_until(lambda: time.monotonic() > back, 5, "away for longer than the session's timeout")
    stoppable.start()
    wait_until(lambda: states == [KazooState.SUSPENDED, KazooState.CONNECTED], 15, "connected again")
    assert (zk.client_id[0], zk.exists("/e").ephemeralOwner) == (before, before)


def test_a_frozen_server_suspends_its_clients_and_nothing_worse(
    stoppable: Stoppable, connect: Connect
) -> None:
    """LOST never comes while the server is away, only from the server itself: row 2 of the background's table."""
    zk = connect(stoppable.address, timeout=2.0)
    states: list[str] = []
    zk.add_listener(states.append)
    stoppable.freeze()
    began = time.monotonic()
    wait_until(lambda: states == [KazooState.SUSPENDED], 10, "suspended")
    assert time.monotonic() - began < 2.0
    wait_until(lambda: time.monotonic() > began + 3.0, 5, "frozen for longer than the session's timeout")
    assert states == [KazooState.SUSPENDED]
    stoppable.thaw()
    wait_until(lambda: states[-1] == KazooState.CONNECTED, 15, "connected again, with the old session or a new one")


def test_after_a_wipe_a_client_is_stuck_until_it_starts_anew(
    stoppable: Stoppable, connect: Connect
) -> None:
    """Row 12: its zxid is from the future, so the server turns it away for ever; stop and start heal it."""
    zk = connect(stoppable.address, timeout=2.0)
    for number in range(20):
        zk.create(f"/{number}")
    stoppable.wipe()
    wait_until(lambda: not zk.connected, 10, "disconnected")
    with RawSession(stoppable.address, last_zxid=zk.last_zxid) as stuck:
        assert stuck.granted_ms is None
    zk.stop()
    zk.start(timeout=10)
    assert zk.get_children("/") == ["zookeeper"]
