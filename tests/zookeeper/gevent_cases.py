"""Cases that need a gevent process as a node is one: monkey-patched before anything else. Run by test_client.py."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import gevent  # noqa: E402
import pytest  # noqa: E402
from gevent.resolver.thread import Resolver  # noqa: E402

from ringway.core.errors import Unavailable  # noqa: E402
from ringway.core.members import State  # noqa: E402
from ringway.zookeeper.client import ZooKeeper  # noqa: E402
from ringway.zookeeper.membership import NodeRegistration  # noqa: E402
from ringway.zookeeper.nodes_view import NodesView  # noqa: E402
from ringway.zookeeper.ring_document import Election, RingReader  # noqa: E402
from tests.harness.waiting import wait_until  # noqa: E402
from tests.zookeeper.help import KEYS, TIMEOUT_S, document, new_cluster, record  # noqa: E402


def ask(address: str, word: str) -> None:
    host, port = address.split(":")
    with gevent.socket.create_connection((host, int(port))) as connection:
        connection.sendall(word.encode())
        connection.recv(64)


def timeouts(zk: ZooKeeper) -> None:
    """A call that runs out of time raises Unavailable; a Timeout of the caller's own comes through as itself."""
    ask(zk.hosts, "rwfz")
    with pytest.raises(Unavailable):
        zk.call(lambda client: client.get_async("/"), 0.2)
    mine = gevent.Timeout(0.2)
    with pytest.raises(gevent.Timeout) as caught, mine:
        zk.get("/")
    assert caught.value is mine
    ask(zk.hosts, "rwth")
    wait_until(lambda: zk.connected)

    def out_of_time(_session: int, _new: bool) -> None:
        raise gevent.Timeout(1)

    seen: list[int] = []
    zk.add_session_listener(out_of_time)
    zk.add_session_listener(lambda session, _new: seen.append(session))
    for count in (1, 2):  # the worker outlives it
        ask(zk.hosts, "rwdr")
        wait_until(lambda count=count: len(seen) == count)  # type: ignore[misc]


def stall(zk: ZooKeeper) -> None:
    """The whole process computes for longer than the session's time-out."""
    registration = NodeRegistration(zk, record("n1"))
    assert registration.register()
    before = zk.session_id
    end = time.monotonic() + 3 * TIMEOUT_S
    while time.monotonic() < end:
        pass
    wait_until(lambda: zk.connected and zk.session_id != before, 10.0, "a new session")
    wait_until(lambda: registration.registered and _owner(zk) == zk.session_id, 10.0, "the entry is made again")
    registration.close()
    print("registered again")


def _owner(zk: ZooKeeper) -> int | None:
    stat = zk.exists(zk.path("nodes", "n1"))
    return stat.ephemeralOwner if stat else None


def everyday(zk: ZooKeeper) -> None:
    """Register, watch, elect, publish, read; no greenlet is left after stop."""
    woken: list[object] = []
    view = NodesView(zk, lambda *_: woken.append(1))
    assert view.read() == {}
    registration = NodeRegistration(zk, record("n1", state=State.JOINING))
    assert registration.register()
    wait_until(lambda: woken)
    assert view.read()["n1"].state is State.JOINING
    registration.set_state(State.ACTIVE)
    wait_until(lambda: view.read()["n1"].state is State.ACTIVE)
    got: list[object] = []
    reader = RingReader(zk, KEYS, got.append)
    reader.start()
    election = Election(zk)
    assert election.campaign(lambda *_: None)
    election.publish(document(1, 1).to_bytes(), election.read()[1])
    wait_until(lambda: got)
    together = [gevent.spawn(reader.refresh, 2.0) for _ in range(50)]
    assert all(one.get() == document(1, 1) for one in together)
    reader.stop()
    registration.close()


class SlowResolver(Resolver):  # type: ignore[misc]
    """Takes half a second for a name, as a name server that is away does."""

    turns: list[int]

    def getaddrinfo(self, *arguments: object, **options: object) -> object:
        before = ticks[0]
        gevent.sleep(0.5)
        self.turns.append(ticks[0] - before)
        return super().getaddrinfo(*arguments, **options)


ticks = [0]


def slow_names(zk: ZooKeeper) -> None:
    """Others go on while kazoo waits for the name of a server."""

    def tick() -> None:
        while True:
            ticks[0] += 1
            gevent.sleep(0.01)

    ticker = gevent.spawn(tick)
    gevent.get_hub().resolver = resolver = SlowResolver()
    resolver.turns = []
    try:
        zk.start(0.1)
        wait_until(lambda: resolver.turns)
        assert resolver.turns[0] > 10
    finally:
        ticker.kill()
        zk.stop()


def main(case: Callable[[ZooKeeper], None], address: str) -> None:
    zk = ZooKeeper(address, cluster=new_cluster(), timeout_s=TIMEOUT_S, handler="gevent")
    if case is slow_names:
        slow_names(zk)
        return
    assert zk.start(10.0)
    try:
        case(zk)
    finally:
        zk.stop()


if __name__ == "__main__":
    main({case.__name__: case for case in (timeouts, stall, everyday, slow_names)}[sys.argv[1]], sys.argv[2])
