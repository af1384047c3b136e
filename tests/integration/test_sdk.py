"""The SDKs on a real cluster: what the scripted peer cannot show is that both sides mean the same protocol."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringway.client_sdk import AsyncClient, Client, ClientError, Gap, Message, State
from ringway.store.client import connect
from ringway.store.publisher import Publisher
from tests.harness import node_ws
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
UIDS = [f"sdk-{number}" for number in range(40)]


@pytest.fixture
def cluster(zookeeper: str, redis_url: str) -> Iterator[Cluster]:
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=2, lookups=2) as running:
        yield running


class Crowd:
    """SDK clients in a thread of their own, which write down their states and what they are given, and send."""

    def __init__(self, lookups: list[str]) -> None:
        self.lookups = lookups
        self.got: defaultdict[str, list[Message]] = defaultdict(list)
        self.gaps: list[Gap] = []
        self.errors: list[ClientError] = []
        self.cut: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # without an open connection
        self.sent: defaultdict[str, list[int]] = defaultdict(list)
        self.clients: dict[str, AsyncClient] = {}
        self._since: dict[str, float] = {}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="crowd")

    def __enter__(self) -> Crowd:
        self._thread.start()
        assert self._ready.wait(60), "the crowd did not connect"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    async def _run(self) -> None:
        self.clients = {uid: self._client(uid) for uid in UIDS}
        await asyncio.gather(*(client.connect(timeout=60) for client in self.clients.values()))
        await asyncio.gather(*(client.join("everybody").result() for client in self.clients.values()))
        self._ready.set()
        for number in itertools.count():
            if self._stop.is_set():
                break
            sender, to = UIDS[number % len(UIDS)], UIDS[(number * 7 + 1) % len(UIDS)]
            self.sent[f"{sender}>{to}"].append(number)
            self.clients[sender].send(to, [sender, number])
            if number % 10 == 0:
                self.sent["everybody"].append(number)
                self.clients[UIDS[0]].publish("everybody", [UIDS[0], number])
            await asyncio.sleep(0.003)
        await asyncio.gather(*(client.flush(30) for client in self.clients.values()))
        await asyncio.sleep(0.5)
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    def _client(self, uid: str) -> AsyncClient:
        def on_state(state: State, _: ClientError | None) -> None:
            now = time.monotonic()
            if state in (State.OPEN, State.MOVING):
                started = self._since.pop(uid, None)
                if started is not None:
                    self.cut[uid].append((started, now))
            elif state is not State.CLOSED and self.clients[uid].node:
                self._since.setdefault(uid, now)

        return AsyncClient(self.lookups, uid, on_message=self.got[uid].append, on_state=on_state,
                           on_gap=self.gaps.append, on_error=self.errors.append)

    def nodes(self) -> dict[str, str]:
        return {uid: client.node for uid, client in self.clients.items()}

    def judge(self) -> None:
        """Nothing lost, doubled, out of order, or reported as such."""
        assert not self.gaps
        assert not self.errors
        everybody = self.sent.pop("everybody")
        for uid in UIDS:
            group = [message.body[1] for message in self.got[uid] if message.group]
            assert group == everybody, f"{uid}: the group"
            for sender in UIDS:
                got = [m.body[1] for m in self.got[uid] if not m.group and m.from_ == sender]
                assert got == self.sent.get(f"{sender}>{uid}", []), f"{sender} to {uid}"


def lookups(cluster: Cluster) -> list[str]:
    return [lookup.url for lookup in cluster.lookups]


@pytest.mark.slow
def test_a_join_and_a_drain_cut_nobody_and_a_kill_only_for_a_moment(cluster: Cluster) -> None:
    with Crowd(lookups(cluster)) as crowd:
        before = crowd.nodes()
        cluster.add_node("node-3")
        owners = {uid: cluster.route(uid)["node"] for uid in UIDS}
        wait_until(lambda: crowd.nodes() == owners, 30)
        assert {uid for uid in UIDS if before[uid] != owners[uid]}, "the new node took somebody over"
        assert not crowd.cut, "a join cuts nobody off"

        cluster.nodes["node-1"].terminate()
        assert cluster.nodes["node-1"].wait_exit(30) == 0
        wait_until(lambda: "node-1" not in crowd.nodes().values(), 30)
        assert not crowd.cut, "a drain cuts nobody off"

        on_two = {uid for uid, node in crowd.nodes().items() if node == "node-2"}
        cluster.nodes["node-2"].kill()
        wait_until(lambda: set(crowd.nodes().values()) == {"node-3"}, 30)
        wait_until(lambda: set(crowd.cut) == on_two, 10)
        spans = sorted(end - start for cuts in crowd.cut.values() for start, end in cuts)
        assert spans[len(spans) // 2] < 2
        assert spans[-1] < 5
    crowd.judge()


@pytest.mark.slow
def test_a_lookup_that_dies_is_nobodys_loss(cluster: Cluster) -> None:
    urls = lookups(cluster)
    cluster.lookups[0].kill()
    with Crowd(urls) as crowd:
        cluster.add_node("node-3")
        owners = {uid: cluster.route(uid)["node"] for uid in UIDS}
        wait_until(lambda: crowd.nodes() == owners, 30)
    assert not crowd.cut
    crowd.judge()


def test_the_blocking_client_and_offline_messages(cluster: Cluster) -> None:
    with Client(lookups(cluster), "alice") as alice:
        for number in range(20):
            alice.send("用户7", {"n": number}).result(10)
        assert alice.send("alice", "self").result(10) == 1
        assert alice.receive(10).body == "self"
    got: list[Any] = []
    with Client(lookups(cluster), "用户7", on_message=lambda message: got.append(message.body["n"])):
        wait_until(lambda: len(got) == 20)
    assert got == list(range(20))
    with Client(lookups(cluster), "用户7") as user, pytest.raises(TimeoutError):
        user.receive(0.5)  # all were acknowledged


class Device:
    """A device of a user: it keeps its places, and writes down what it is given whenever it is on."""

    def __init__(self, lookup: str, uid: str) -> None:
        self.lookup, self.uid = lookup, uid
        self.places: dict[str, str] = {}
        self.got: list[Any] = []
        self.gaps: list[Gap] = []
        self.states: list[State] = []

    def load(self) -> dict[str, str]:
        return self.places

    def save(self, positions: Mapping[str, str]) -> None:
        self.places = dict(positions)

    @contextmanager
    def on(self) -> Iterator[Device]:
        client = Client(self.lookup, self.uid, positions=self, on_gap=self.gaps.append,
                        on_message=lambda message: self.got.append(message.body),
                        on_state=lambda state, _: self.states.append(state))
        with client:
            yield self


def test_each_device_of_a_member_gets_all_messages_of_the_group_once(cluster: Cluster, redis_url: str) -> None:
    phone, laptop = Device(cluster.url, "anna"), Device(cluster.url, "anna")
    with closing(connect(redis_url)) as redis:
        publisher = Publisher(redis, cluster=cluster.name)
        publisher.add_members("team", "anna")
        with phone.on(), laptop.on():
            publisher.publish("team", 0)
            wait_until(lambda: phone.got == laptop.got == [0])
        with phone.on():
            publisher.publish("team", 1)
            publisher.publish("team", 2)
            wait_until(lambda: phone.got == [0, 1, 2])
        publisher.publish("team", 3)
        laptop.states.clear()
        with laptop.on():
            wait_until(lambda: len(laptop.got) == 4)
    assert laptop.got == [0, 1, 2, 3]
    assert laptop.gaps == []
    assert laptop.states.count(State.OPEN) == 1


PROGRAM = """
    import WebSocket from "ws";
    import { Client } from "../../client_sdk/js/ringway.js";
    const client = new Client(JSON.parse(process.argv[1]), "bob", { WebSocket });
    await client.connect();
    await client.join("room");
    console.log("ready");
    for await (const message of client) {
      if (message.body === "stop") break;
      await (message.group ? client.publish("room", "heard") : client.send(message.from, { echo: message.body }));
    }
    await client.close();
"""


def test_python_and_javascript_talk_to_each_other(cluster: Cluster, tmp_path: Path) -> None:
    node = node_ws.node()
    node_ws.packages()
    command = [node, "--input-type=module", "-e", PROGRAM, f'["{cluster.url}"]']
    with (
        subprocess.Popen(command, cwd=ROOT / "tests" / "js", stdout=subprocess.PIPE, text=True) as program,
        Client(cluster.url, "alice", groups=["room"]) as alice,
    ):
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "ready\n"
            alice.send("bob", {"text": "hello"}).result(10)
            assert alice.receive(10).body == {"echo": {"text": "hello"}}
            alice.publish("room", "hi").result(10)
            assert {alice.receive(10).body, alice.receive(10).body} == {"hi", "heard"}
            alice.send("bob", "stop").result(10)
            assert program.wait(10) == 0
        finally:
            program.kill()

