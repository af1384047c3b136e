"""Users of a node that ended, and who tells the application that they are offline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.store.presence import LEASE_S, RETURN_S, PresenceReader
from tests.harness import redises, zookeepers

from .nodes import Nodes, until

NODES = ("h1", "h2", "h3")


@pytest.fixture
def running(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    env = {"RINGWAY_APP": "tests.ws_server.chat:setup"}
    with Nodes(zookeeper_server.address, redis_server.url, *NODES, env=env) as nodes:
        yield nodes


def told(nodes: Nodes, uid: str, *but: str) -> list[str]:
    """What the handlers of the nodes were told of a user, connections aside."""
    living = [node for name, node in nodes.nodes.items() if name not in but]
    lines = [line for node in living for line in node.get(f"/log?uid={uid}").json()]
    return sorted(line for line in lines if not line.startswith("left"))


def test_users_of_a_killed_node_who_never_return_go_offline_once(running: Nodes) -> None:
    """kill -9. One user comes back on another node in time, and was never offline."""
    gone = [f"{running.uid_of('h1', f'gone{i}')}" for i in range(20)]
    back = running.uid_of("h1", "back")
    for uid in (*gone, back):
        running.join(uid)
    until(lambda: all(told(running, uid) == [f"online {uid}"] for uid in (gone[0], gone[-1], back)), "all are online")
    reader = PresenceReader(running.redis, running.keys)
    until(lambda: reader.count() == 21)
    running.nodes["h1"].child.popen.kill()
    running.ring("h2", "h3", seen_by=("h2", "h3"))
    returned = running.join(back)
    timeout_s = LEASE_S + RETURN_S + 15.0
    until(lambda: all(told(running, uid, "h1") == [f"offline {uid}"] for uid in gone), "all are offline", timeout_s)
    assert reader.where([*gone, back]) == {**dict.fromkeys(gone), back: running.owner(back)}
    assert told(running, back, "h1") == []
    returned.close()
    until(lambda: told(running, back, "h1") == [f"offline {back}"], "offline at last")
    assert all(told(running, uid, "h1") == [f"offline {uid}"] for uid in gone)


def test_users_of_a_stopped_node_who_never_return_go_offline_once(running: Nodes) -> None:
    """Told to stop, with sessions of clients that do not move."""
    uid = running.uid_of("h1", "stayed")
    client = running.join(uid)
    until(lambda: told(running, uid) == [f"online {uid}"])
    running.nodes["h1"].child.popen.terminate()
    running.ring("h2", "h3", seen_by=("h2", "h3"))
    client.closed(60.0)
    running.nodes["h1"].child.popen.wait(30.0)
    until(lambda: told(running, uid, "h1") == [f"offline {uid}"], "offline", RETURN_S + 25.0)
