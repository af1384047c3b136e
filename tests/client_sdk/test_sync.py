"""Client, for threads and greenlets, against a peer that does as it is told.

What it shares with AsyncClient (the machine, the conversation) is tested there; here is what blocking and threads add.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ringway.client_sdk import (
    AsyncClient,
    Client,
    ClientClosed,
    ClientError,
    ClosedByServer,
    ConnectFailed,
    FrameRefused,
    Gap,
    InvalidInput,
    Message,
    RouteRefused,
    SendBufferFull,
    State,
    Unavailable,
    Unconfirmed,
)
from ringway.client_sdk import liveness as liveness_module
from tests.harness.fake_node import FakeCluster
from tests.harness.waiting import wait_until


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


def bodies(messages: list[Message]) -> list[Any]:
    return [message.body for message in messages]


def test_two_users_exchange_messages_and_each_send_gets_its_seq(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice") as alice, Client(cluster.urls[0], "bob") as bob:
        receipt = alice.send("bob", {"text": "hello"})
        assert receipt.id
        assert receipt.result(5) == 1
        message = bob.receive(5)
        assert (message.from_, message.body) == ("alice", {"text": "hello"})
        assert bob.join("room").result(5).group == "room"
        assert alice.publish("room", [1]).result(5) == 1
        assert bob.receive(5).group == "room"
        assert alice.send("bob", "now", volatile=True).result(5) is None
        assert bob.receive(5).seq is None
        assert alice.broadcast("to all").result(5) is None
        for message in (alice.receive(5), bob.receive(5)):
            assert (message.ch, message.body, message.seq) == ("*", "to all", None)
        with pytest.raises(TimeoutError):
            bob.receive(0.01)


def test_iterating_ends_when_another_thread_closes_the_client(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice") as alice:
        alice.send("alice", 1).result(5)
        closer = threading.Timer(0.2, alice.close)
        closer.start()
        assert [message.body for message in alice] == [1]
        closer.join()
        with pytest.raises(ClientClosed):
            alice.send("bob", 1)


def test_many_threads_send_over_one_client(cluster: FakeCluster) -> None:
    got: list[Message] = []

    def send(name: int) -> None:
        for number in range(50):
            alice.send("bob", [name, number])

    with Client(cluster.urls, "alice") as alice, Client(cluster.urls, "bob", on_message=got.append):
        threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alice.flush(10)
        wait_until(lambda: len(got) == 200)
        for name in range(4):
            assert [number for each, number in bodies(got) if each == name] == list(range(50))


def test_messages_sent_during_moves_and_drops_arrive_once_and_in_order(cluster: FakeCluster) -> None:
    got: list[Message] = []
    states: list[State] = []
    with (
        Client(cluster.urls, "alice", on_state=lambda state, _: states.append(state)) as alice,
        Client(cluster.urls, "bob", on_message=got.append),
    ):
        for number in range(300):
            alice.send("bob", number)
            if number % 60 == 30:
                cluster.move("n2" if cluster.owner == "n1" else "n1")
            if number % 90 == 45:
                cluster.drop_all(cluster.owner)
            time.sleep(0.002)
        alice.flush(10)
        wait_until(lambda: len(got) >= 300)
        assert bodies(got) == list(range(300))
        assert State.MOVING in states


def test_a_move_makes_before_it_breaks(cluster: FakeCluster) -> None:
    got: list[Message] = []
    with Client(cluster.urls, "alice", on_message=got.append, groups=["room"]) as alice:
        alice.send("alice", 1).result(5)
        cluster.move("n2")
        wait_until(lambda: alice.node == "n2")
        alice.publish("room", 2).result(5)
        wait_until(lambda: len(got) == 2)
        wait_until(lambda: cluster.count("n1") == 0)
        assert cluster.closes == [{"node": "n1", "code": 1000}]
        assert cluster.handshakes[-1]["inbox"] == "log1:1"
        assert len(cluster.routes) == 1


def test_a_move_has_as_long_as_the_node_said_and_the_node_hears_that_it_is_under_way(cluster: FakeCluster) -> None:
    states: list[State] = []
    options: dict[str, Any] = {"open_timeout_s": 0.3, "on_state": lambda state, _: states.append(state)}
    with Client(cluster.urls, "alice", **options) as alice:
        cluster.greet("n2", "late", 1.0)
        cluster.move("n2")
        wait_until(lambda: states[-2:] == [State.MOVING, State.OPEN])
        assert alice.node == "n2"
        assert len(cluster.handshakes) == 2
        assert [frame["node"] for frame in cluster.heard if frame["t"] == "moving"] == ["n1"]


def test_a_dead_node_is_avoided_and_the_client_is_back_in_time(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice") as alice:
        started = time.monotonic()
        cluster.kill("n1")
        receipt = alice.send("alice", "kept")
        assert receipt.result(10) == 1
        assert time.monotonic() - started < 3
        assert (alice.node, cluster.routes[-1]["avoid"]) == ("n2", "n1")


def test_a_node_that_falls_silent_is_pinged_and_then_left(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness_module, "PONG_S", 0.3)
    cluster.set("n1", "ping_s", 0.2)
    with Client(cluster.urls, "alice", open_timeout_s=0.3) as alice:
        wait_until(lambda: any(frame["t"] == "ping" for frame in cluster.heard))
        cluster.freeze("n1")
        wait_until(lambda: alice.node == "n2")
        cluster.thaw("n1")


@pytest.mark.parametrize("code", [1000, 4001, 4009])
def test_a_stop_reaches_who_waits_for_messages(cluster: FakeCluster, code: int) -> None:
    with Client(cluster.urls, "alice") as alice:
        cluster.close_all("n1", code)
        with pytest.raises(ClosedByServer, match=str(code)):
            alice.receive(5)
        with pytest.raises(ClosedByServer):
            list(alice)


def test_a_refusal_of_the_lookup_stops(cluster: FakeCluster) -> None:
    cluster.answer(0, 403, {}, {"error": "forbidden", "message": "not you"})
    client = Client(cluster.urls, "alice", token="secret")
    with pytest.raises(RouteRefused, match="403"):
        client.connect()
    client.close()
    assert cluster.routes[0]["authorization"] == "Bearer secret"


def test_connect_gives_up_in_time_and_goes_on_in_the_background(cluster: FakeCluster) -> None:
    cluster.answer(0, 503, {"Retry-After": "1"}, {"error": "no_node", "message": "no node is active"})
    client = Client(cluster.urls, "alice")
    with pytest.raises(ConnectFailed, match="no node is active"):
        client.connect(timeout=0.2)
    wait_until(lambda: client.state is State.OPEN)
    client.close()


def test_a_token_callable_that_fails_is_tried_again(cluster: FakeCluster) -> None:
    tokens: list[str | Exception] = [OSError("the token service is away"), "good"]

    def token() -> str:
        match tokens.pop(0):
            case Exception() as error:
                raise error
            case good:
                return str(good)

    with Client(cluster.urls, "alice", token=token):
        assert [route["authorization"] for route in cluster.routes] == ["Bearer good"]


@pytest.mark.parametrize("text", [
    "hello", "[]", "null", '{"t": "welcome"}', '{"t": "welcome", "node": 7, "gen": 7, "epoch": 1}',
    '{"t": "welcome", "node": "n1", "gen": "7", "epoch": 1}',
])
def test_a_node_that_does_not_speak_the_protocol_is_left_for_another(cluster: FakeCluster, text: str) -> None:
    cluster.greet("n1", "say", text)
    with Client(cluster.urls, "alice"):
        assert cluster.routes[-1]["avoid"] == "n1"


def test_nothing_is_lost_while_the_log_is_away(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice") as alice, Client(cluster.urls, "bob") as bob:
        cluster.set("n1", "unavailable", True)
        receipts = [alice.send("bob", number) for number in range(5)]
        wait_until(lambda: len([frame for frame in cluster.heard if frame["t"] == "send"]) >= 5)
        cluster.set("n1", "unavailable", False)
        alice.flush(10)
        assert all(receipt.done for receipt in receipts)
        assert [bob.receive(5).body for _ in receipts] == list(range(5))


def test_what_was_kept_goes_out_at_the_rate_that_the_node_allows(cluster: FakeCluster) -> None:
    got: list[Message] = []
    cluster.set("n1", "rate", 100)
    client = Client(cluster.urls, "alice", on_message=got.append)
    for number in range(700):
        client.send("alice", number)
    with client:
        client.flush(20)
        wait_until(lambda: len(got) == 700)
        assert bodies(got) == list(range(700))
        assert cluster.closes == []


def test_refused_full_and_volatile_sends_raise(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice", outbox_limit=1) as alice:
        with pytest.raises(FrameRefused):
            alice.send("bob", "forbidden").result(5)
        cluster.set("n1", "mute_ok", True)
        volatile = alice.send("bob", 1, volatile=True)
        with pytest.raises(SendBufferFull):
            alice.send("bob", 2)
        cluster.drop_all("n1")
        with pytest.raises(Unavailable):
            volatile.result(5)


def test_what_the_log_may_no_longer_know_is_not_sent_again_and_the_application_is_told(cluster: FakeCluster) -> None:
    errors: list[ClientError] = []
    cluster.set("n1", "mute_ok", True)
    cluster.set("n1", "dedup_s", 0.001)
    with Client(cluster.urls, "alice", on_error=errors.append) as alice:
        receipt = alice.send("bob", 1)
        wait_until(lambda: [frame["t"] for frame in cluster.heard] == ["send"])
        cluster.drop_all("n1")
        wait_until(lambda: errors)
        assert errors == [receipt.error]
        with pytest.raises(Unconfirmed, match="it may have arrived"):
            receipt.result(5)
        cluster.set("n1", "mute_ok", False)
        alice.send("bob", 2).result(5)
    assert [frame["body"] for frame in cluster.heard if frame["t"] == "send"] == [1, 2]


def test_reading_pauses_when_the_application_does_not_keep_up_and_nothing_is_lost(cluster: FakeCluster) -> None:
    with Client(cluster.urls, "alice", inbox_limit=5) as alice:
        for number in range(50):
            cluster.push("u:alice", number)
        wait_until(lambda: len(alice._messages) == 5)
        assert [alice.receive(5).body for _ in range(50)] == list(range(50))


def test_an_application_that_is_slower_than_ping_and_pong_keeps_its_connection_and_one_line_says_so(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(liveness_module, "PONG_S", 0.2)
    cluster.set("n1", "ping_s", 0.1)
    got: list[Message] = []

    def on_message(message: Message) -> None:
        got.append(message)
        if message.body == 0:
            time.sleep(1)  # longer than ping and pong: the test's subject

    with Client(cluster.urls, "alice", inbox_limit=2, on_message=on_message) as alice:
        for number in range(10):
            cluster.push("u:alice", number)
        wait_until(lambda: len(got) == 10)
        alice.send("bob", "still here").result(5)
        assert len(cluster.handshakes) == 1
    assert len([each for each in caplog.messages if "reading pauses" in each]) == 1


@pytest.mark.parametrize("frame", [{}, {"url": 7, "gen": 7, "epoch": 2}, {"url": "ws://x", "gen": "7", "epoch": 2}])
def test_a_move_that_is_none_changes_nothing(cluster: FakeCluster, frame: dict[str, Any]) -> None:
    errors: list[ClientError] = []
    with Client(cluster.urls, "alice", on_error=errors.append) as alice:
        cluster.say("n1", {"t": "move", **frame})
        wait_until(lambda: errors)
        assert (alice.send("bob", 1).result(5), alice.state) == (1, State.OPEN)
        assert "bad_frame" in str(errors[0])


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_could_never_work_is_refused_by_the_constructor(kind: type[Client] | type[AsyncClient]) -> None:
    for lookup in ("nope", None, 7, [], ["http://a", "/b"], "http://", "http://a:99999", "ws://a"):
        with pytest.raises(InvalidInput, match=r"^lookup="):
            kind(lookup, "alice")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"^groups='room'"):
        kind("http://a", "alice", groups="room")


def test_gaps_and_unread_messages(cluster: FakeCluster) -> None:
    gaps: list[Gap] = []
    for number in range(9):
        cluster.push("u:alice", number)
    cluster.lose_log("u:alice", "log1", 7)
    with Client(cluster.urls, "alice", on_gap=gaps.append) as alice:
        assert [alice.receive(5).body for _ in range(2)] == [7, 8]
        assert gaps == [Gap("u:alice", None, "log1", 8)]
        wait_until(lambda: cluster.logs["u:alice"].cursor == 8)


def test_a_callback_may_fail_send_and_close(cluster: FakeCluster) -> None:
    def on_message(message: Message) -> None:
        if message.body == "fail":
            raise RuntimeError("the application's own")
        alice.send("bob", "answer").result(5)
        alice.close()

    alice = Client(cluster.urls, "alice", on_message=on_message)
    with Client(cluster.urls, "bob") as bob:
        alice.connect()
        bob.send("alice", "fail")
        bob.send("alice", "ask")
        assert bob.receive(5).body == "answer"
        wait_until(lambda: alice.state is State.CLOSED)
    alice.close()


@pytest.mark.parametrize("greeting", [("silent",), ("close", 4100), ("close", 4300, 60_000)])
def test_after_close_nothing_happens_any_more(cluster: FakeCluster, greeting: tuple[Any, ...]) -> None:
    cluster.greet("n1", *greeting)
    client = Client(cluster.urls, "alice")
    client.connect(wait=False)
    wait_until(lambda: not cluster.nodes["n1"].greetings)
    client.close()
    seen = len(cluster.handshakes), len(cluster.routes)
    time.sleep(0.2)
    assert (len(cluster.handshakes), len(cluster.routes)) == seen
    with pytest.raises(ClientClosed):
        client.connect()


def test_a_client_that_was_never_started_can_be_closed(cluster: FakeCluster) -> None:
    client = Client(cluster.urls, "alice")
    client.close()
    with pytest.raises(ClientClosed):
        client.receive(1)


GREENLETS = """
    from gevent import monkey
    monkey.patch_all()
    import sys, gevent
    from ringway.client_sdk import Client

    with Client(sys.argv[1], "alice") as alice, Client(sys.argv[1], "bob") as bob:
        def echo():
            for message in bob:
                bob.send(message.from_, message.body)
        server = gevent.spawn(echo)
        ticks = []
        ticker = gevent.spawn(lambda: [ticks.append(gevent.sleep(0.01)) for _ in range(20)])
        print("move me", flush=True)
        for number in range(100):
            alice.send("bob", number)
        assert [alice.receive(10).body for _ in range(100)] == list(range(100))
        while alice.node != "n2" or bob.node != "n2":
            gevent.sleep(0.01)
        alice.send("bob", "after").result(10)
        assert alice.receive(10).body == "after"
        ticker.join()
        assert len(ticks) == 20
    server.join(5)
    print("done", flush=True)
"""


def test_it_works_in_a_process_patched_by_gevent(cluster: FakeCluster) -> None:
    command = [sys.executable, "-c", textwrap.dedent(GREENLETS), cluster.urls[0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "move me\n"
            cluster.move("n2")
            assert process.stdout.readline() == "done\n"
            assert process.wait(10) == 0
        finally:
            process.kill()
