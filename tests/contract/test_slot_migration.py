"""A slot of a Redis Cluster goes to another master: its channels go on as another history, nobody else notices."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from redis.crc import key_slot

from ringway.core.errors import Unsettled
from ringway.store.client import Client, connect
from ringway.store.keys import Keys
from ringway.store.log import Appended, MessageLog
from tests.harness import zookeepers
from tests.harness.cluster import Cluster
from tests.harness.logs import all_done, append, at, frames, ids, message
from tests.harness.redis_fleets import RedisClusterServers, master_port
from tests.ws_server.nodes import Client as Socket


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as servers:
        yield servers


@pytest.fixture
def client(servers: RedisClusterServers) -> Iterator[Client]:
    client = connect(servers.url)
    yield client
    client.close()


@pytest.fixture
def keys() -> Keys:
    return Keys(f"t{uuid.uuid4().hex[:10]}")


@pytest.fixture
def log(client: Client, keys: Keys) -> MessageLog:
    return MessageLog(client, keys)


class Users:
    """Uids by where their inboxes are."""

    def __init__(self, servers: RedisClusterServers, keys: Keys) -> None:
        self._port, self._keys = servers.servers[0].port, keys

    def slot(self, uid: str) -> int:
        return key_slot(self._keys.log(f"u:{uid}").encode())

    def master(self, uid: str) -> int:
        return master_port(self._port, self.slot(uid))

    def find(self, wanted: Callable[[str], bool]) -> str:
        return next(uid for uid in (f"u{number}" for number in range(200_000)) if wanted(uid))

    def beside(self, uid: str) -> str:
        """One whose inbox is in another slot of the same master."""
        return self.find(lambda one: self.slot(one) != self.slot(uid) and self.master(one) == self.master(uid))

    def elsewhere(self, uid: str) -> str:
        """One whose inbox is with another master."""
        return self.find(lambda one: self.master(one) != self.master(uid))

    def in_slot_of(self, uid: str) -> str:
        return self.find(lambda one: one != uid and self.slot(one) == self.slot(uid))


def test_only_the_channels_of_the_slot_go_on_as_another_history(
    servers: RedisClusterServers, keys: Keys, log: MessageLog
) -> None:
    users = Users(servers, keys)
    moved = "u0"
    chs = [f"u:{uid}" for uid in (moved, users.beside(moved), users.elsewhere(moved))]
    first = all_done(log.append_many([message("0", ch) for ch in chs]))
    servers.move(keys.log(chs[0])).run()
    for number in range(1, 6):
        done = all_done(log.append_many([message(number, ch) for ch in chs]))
        assert [(one.seq, one.duplicate) for one in done] == [(number + 1, False)] * 3
    assert [one.gen == before.gen for one, before in zip(done, first, strict=True)] == [False, True, True]
    for before in first:
        entries = log.read(before.ch, at(before))
        assert (ids(entries), entries.recovered) == (["1", "2", "3", "4", "5"], True)
        assert not any("was" in frame for frame in frames(entries))


def test_a_slot_that_comes_back_has_everything_once(servers: RedisClusterServers, keys: Keys, log: MessageLog) -> None:
    first = append(log, "a", ch="u:u0")[0]
    for name in "bc":
        servers.move(keys.log("u:u0")).run()
        append(log, name, ch="u:u0")
    entries = log.read("u:u0", at(first))
    assert (ids(entries), entries.recovered) == (["b", "c"], True)


def test_channels_of_a_slot_that_is_half_moved_wait_and_are_there_afterwards(
    servers: RedisClusterServers, keys: Keys, log: MessageLog
) -> None:
    users = Users(servers, keys)
    gone, staying = "u0", users.in_slot_of("u0")
    other = users.beside(gone)
    append(log, "a", ch=f"u:{gone}")
    append(log, "a", ch=f"u:{staying}")
    move = servers.move(keys.log(f"u:{gone}"))
    move.begin()
    move.take(*keys.of_log(f"u:{gone}"))
    waits, stays, goes_on = log.append_many([message("b", f"u:{uid}") for uid in (gone, staying, other)])
    assert isinstance(goes_on, Appended)
    assert all(isinstance(one, Appended | Unsettled) for one in (waits, stays))
    move.finish()
    for uid in (gone, staying):
        append(log, "b", "c", ch=f"u:{uid}")
        assert ids(log.read(f"u:{uid}", None)) == ["a", "b", "c"]


def test_a_node_serves_everybody_while_slots_move(
    servers: RedisClusterServers, zookeeper_server: zookeepers.Provider
) -> None:
    with Cluster(zookeeper=zookeeper_server.address, redis=servers.url, nodes=1) as cluster:
        keys = Keys(cluster.name)
        users = Users(servers, keys)
        uids = ["u0", users.beside("u0"), users.elsewhere("u0")]
        clients = {uid: Socket(cluster.route(uid)["url"]) for uid in uids}
        for step in range(4):
            move = servers.move(keys.log("u:u0"))
            move.begin()
            latecomer = Socket(cluster.route(uids[1])["url"])
            latecomer.wait("welcome")
            latecomer.close()
            for uid, client in clients.items():
                client.send(t="send", id=f"{step}", to=uid, body=step)
            for uid in uids[1:]:
                clients[uid].wait("ok", id=f"{step}")
            move.finish()
            _insist(clients["u0"], id=f"{step}", to="u0", body=step)
        for client in clients.values():
            assert _bodies(client, 4) == [0, 1, 2, 3]
            assert all(frame["recovered"] for frame in client.frames if frame["t"] == "position")
            client.close()
        assert "Redis is away" not in (cluster.folder / "node-1.log").read_text()


def _insist(client: Socket, **message: object) -> None:
    """Until the node has said ok, as an SDK does."""
    while (answer := client.read(10.0))["t"] != "ok":
        if answer["t"] == "error":
            client.send(t="send", **message)


def _bodies(client: Socket, count: int) -> list[object]:
    """The bodies of the first `count` messages that the client had or has still to get."""
    def had() -> list[object]:
        return [frame["body"] for frame in client.frames if frame["t"] == "msg"]

    while len(had()) < count:
        client.read(10.0)
    return had()
