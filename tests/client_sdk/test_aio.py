"""AsyncClient against a peer that does as it is told, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from ringway.client_sdk import (
    AsyncClient,
    ClientClosed,
    ClientError,
    ClosedByServer,
    ConnectFailed,
    FrameRefused,
    Gap,
    Message,
    Position,
    RouteRefused,
    SendBufferFull,
    State,
    Unavailable,
    Unconfirmed,
)
from ringway.client_sdk import liveness as liveness_module
from tests.harness.fake_node import FakeCluster

T = TypeVar("T")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


def run(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


async def until(predicate: Callable[[], T], seconds: float = 8) -> T:
    """As wait_until, without stopping the loop."""
    deadline = time.monotonic() + seconds
    while not (answer := predicate()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return answer


async def verb(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """A verb of the cluster: it waits for the cluster's own thread, so not in ours."""
    return await asyncio.to_thread(function, *args, **options)


@asynccontextmanager
async def connected(cluster: FakeCluster, uid: str = "alice", **options: Any) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(cluster.urls, uid, **options)
    try:
        await client.connect(timeout=10)
        yield client
    finally:
        await client.close()


def one_at_a_time(got: list[Any], seconds: float) -> Callable[[Message], Coroutine[Any, Any, None]]:
    """A callback that takes its time over each message, and does not take one that comes meanwhile."""
    running = 0

    async def on_message(message: Message) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(seconds)
        running -= 1
        got.append(message.body)

    return on_message


def bodies(messages: list[Message]) -> list[Any]:
    return [message.body for message in messages]


def test_two_users_exchange_messages_and_each_send_gets_its_seq(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice, connected(cluster, "bob") as bob:
            assert await alice.send("bob", {"text": "hello"}) == 1
            message = await bob.receive(5)
            assert (message.from_, message.body, message.seq) == ("alice", {"text": "hello"}, 1)
            await bob.send(["alice", "bob"], [1, None])
            assert (await alice.receive(5)).body == [1, None]
            assert (alice.state, alice.node) == (State.OPEN, "n1")

    run(work)


def test_iterating_ends_when_the_client_is_closed(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            for number in range(3):
                await alice.send("alice", number)
            got = []
            async for message in alice:
                got.append(message.body)
                if len(got) == 3:
                    await alice.close()
            assert got == [0, 1, 2]
            with pytest.raises(ClientClosed):
                alice.send("bob", 1)

    run(work)


def test_groups_and_volatile_messages(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Message] = []
        async with connected(cluster) as alice, connected(cluster, "bob", on_message=got.append) as bob:
            assert (await bob.join("room")).recovered
            await alice.publish("room", "hi")
            assert await alice.send("bob", "now", volatile=True) is None
            await until(lambda: len(got) == 2)
            assert [(m.group, m.seq) for m in got] == [("room", 1), (None, None)]
            bob.leave("room")
            await alice.publish("room", "gone")
            await alice.send("bob", "end")
            await until(lambda: len(got) == 3)
            assert await alice.broadcast("to all") is None
            await until(lambda: len(got) == 4)
            assert bodies(got) == ["hi", "now", "end", "to all"]
            assert (got[3].ch, got[3].seq) == ("*", None)

    run(work)


def test_a_refused_message_or_join_raises_for_who_waits(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            with pytest.raises(FrameRefused, match="forbidden"):
                await alice.send("bob", "forbidden")
            with pytest.raises(FrameRefused, match="forbidden"):
                await alice.join("secret")
            assert alice.state is State.OPEN

    run(work)


def test_a_move_makes_before_it_breaks(cluster: FakeCluster) -> None:
    async def work() -> None:
        states: list[State] = []
        got: list[Message] = []
        async with connected(cluster, on_message=got.append, on_state=lambda state, _: states.append(state)) as alice:
            await alice.join("room")
            await alice.send("alice", 1)
            await verb(cluster.move, "n2")
            await until(lambda: alice.node == "n2")
            await alice.send("alice", 2)
            await alice.publish("room", 3)
            await until(lambda: len(got) == 3)
            await until(lambda: cluster.count("n1") == 0)
            assert bodies(got) == [1, 2, 3]
            assert states[-2:] == [State.MOVING, State.OPEN]
            assert cluster.handshakes[-1]["inbox"] == "log1:1"
            assert cluster.closes == [{"node": "n1", "code": 1000}]
            assert len(cluster.routes) == 1, "the move brought its own URL"
            assert [f["from"]["seq"] for f in cluster.heard if f["t"] == "join" and f["node"] == "n2"] == [0]

    run(work)


def test_a_move_has_as_long_as_the_node_said_and_the_node_hears_that_it_is_under_way(cluster: FakeCluster) -> None:
    async def work() -> None:
        states: list[State] = []
        async with connected(cluster, open_timeout_s=0.3, on_state=lambda state, _: states.append(state)) as alice:
            await verb(cluster.greet, "n2", "late", 1.0)
            await verb(cluster.move, "n2")
            await until(lambda: alice.node == "n2")
            assert states[-2:] == [State.MOVING, State.OPEN]
            assert len(cluster.handshakes) == 2, "one attempt, although it took three times the usual time"
            assert [frame["node"] for frame in cluster.heard if frame["t"] == "moving"] == ["n1"]

    run(work)


def test_a_move_that_fails_keeps_the_old_connection_and_asks_for_a_route(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            await verb(cluster.greet, "n2", "drop")
            await verb(cluster.move, "n2")
            await alice.send("alice", "meanwhile")
            await until(lambda: alice.node == "n2")
            assert (await alice.receive(5)).body == "meanwhile"
            assert cluster.routes[-1]["min_epoch"] == "7.2"

    run(work)


def test_messages_sent_during_moves_and_drops_arrive_once_and_in_order(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Message] = []
        async with connected(cluster) as alice, connected(cluster, "bob", on_message=got.append):
            receipts = []
            for number in range(300):
                receipts.append(alice.send("bob", number))
                if number % 60 == 30:
                    await verb(cluster.move, "n2" if cluster.owner == "n1" else "n1")
                if number % 90 == 45:
                    await verb(cluster.drop_all, cluster.owner)
                await asyncio.sleep(0.002)
            for receipt in receipts:
                await receipt.result(10)
            await until(lambda: len(got) >= 300)
            assert bodies(got) == list(range(300))

    run(work)


def test_a_move_keeps_the_order_while_the_application_is_behind(cluster: FakeCluster) -> None:
    async def move(alice: AsyncClient, target: str) -> None:
        await verb(cluster.greet, target, "late", 0.1)
        await verb(cluster.move, target)
        await verb(lambda: [cluster.push("u:alice", number) for number in range(100)])
        await until(lambda: alice.node == target)
        got = []
        for _ in range(100):
            got.append((await alice.receive(5)).body)
            await asyncio.sleep(0)  # both connections' readers have their turn
        assert got == list(range(100))

    async def work() -> None:
        async with connected(cluster, inbox_limit=2) as alice:
            for target in ("n2", "n1", "n2"):
                await move(alice, target)

    run(work)


@pytest.mark.parametrize("code", [4300, 4301, 4302, 4303, 4304])
def test_43xx_asks_for_a_route_with_the_newest_epoch(cluster: FakeCluster, code: int) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            cluster.change_owner("n2")
            await verb(cluster.close_all, "n1", code, 50, 2)
            await until(lambda: alice.node == "n2" and alice.state is State.OPEN)
            assert cluster.routes[-1]["min_epoch"] == "7.2"

    run(work)


@pytest.mark.parametrize("code", [1000, 4000, 4001, 4003, 4009, 4010])
def test_40xx_and_1000_stop_and_say_why(cluster: FakeCluster, code: int) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            await verb(cluster.close_all, "n1", code)
            with pytest.raises(ClosedByServer, match=str(code)):
                await alice.receive(5)
            with pytest.raises(ClosedByServer):
                async for _ in alice:
                    pass
            with pytest.raises(ClosedByServer):
                alice.send("bob", 1)
            assert isinstance(alice.error, ClosedByServer)
            assert len(cluster.handshakes) == 1

    run(work)


def test_a_broken_connection_returns_to_the_same_node_with_the_resume_ticket(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            await alice.send("alice", 1)
            await alice.receive(5)
            await verb(cluster.drop_all, "n1")
            await until(lambda: len(cluster.handshakes) == 2 and alice.state is State.OPEN)
            assert len(cluster.routes) == 1
            assert cluster.handshakes[1]["inbox"] == "log1:1"
            assert cluster.handshakes[1]["ticket"] != cluster.handshakes[0]["ticket"]

    run(work)


def test_a_dead_node_is_avoided_and_the_client_is_back_in_time(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster) as alice:
            started = time.monotonic()
            await verb(cluster.kill, "n1")
            receipt = alice.send("alice", "kept")
            await until(lambda: alice.node == "n2" and alice.state is State.OPEN)
            assert time.monotonic() - started < 3
            assert cluster.routes[-1]["avoid"] == "n1"
            assert await receipt == 1

    run(work)


def test_the_next_lookup_is_asked_when_one_is_dead() -> None:
    async def work(cluster: FakeCluster) -> None:
        await verb(cluster.kill_lookup, 0)
        for _ in range(4):
            async with connected(cluster) as alice:
                assert alice.state is State.OPEN

    with FakeCluster(lookups=2) as cluster:
        run(lambda: work(cluster))


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_of_the_lookup_stops(cluster: FakeCluster, status: int) -> None:
    async def work() -> None:
        cluster.answer(0, status, {}, {"error": "no", "message": "not you"})
        client = AsyncClient(cluster.urls, "alice")
        with pytest.raises(RouteRefused, match=f"{status} no: not you"):
            await client.connect()
        await client.close()
        assert len(cluster.routes) == 1

    run(work)


def test_retry_after_is_honoured(cluster: FakeCluster) -> None:
    async def work() -> None:
        cluster.answer(0, 503, {"Retry-After": "1"}, {"error": "no_node", "message": "not yet"})
        started = time.monotonic()
        async with connected(cluster):
            assert 1 <= time.monotonic() - started < 3

    run(work)


@pytest.mark.parametrize("status", [200, 202, 302])
def test_an_answer_that_is_no_route_is_tried_again(cluster: FakeCluster, status: int) -> None:
    async def work() -> None:
        cluster.answer(0, status, {"Location": "http://127.0.0.1:1/login"}, {"hello": "I am a proxy"})
        async with connected(cluster) as alice:
            assert alice.state is State.OPEN

    run(work)


def test_connect_gives_up_in_time_and_names_the_cause(cluster: FakeCluster) -> None:
    async def work() -> None:
        await verb(cluster.kill_lookup, 0)
        client = AsyncClient(cluster.urls, "alice")
        with pytest.raises(ConnectFailed, match="ConnectionRefusedError") as caught:
            await client.connect(timeout=0.3)
        assert str(caught.value).count("could not connect") == str(caught.value).count(cluster.urls[0]) == 1
        await client.close()

    run(work)


def test_a_token_is_asked_for_before_each_route(cluster: FakeCluster) -> None:
    async def work() -> None:
        tokens = iter(["one", "two"])

        async def token() -> str:
            return next(tokens)

        async with connected(cluster, token=token) as alice:
            await verb(cluster.close_all, "n1", 4304)
            await until(lambda: len(cluster.routes) == 2 and alice.state is State.OPEN)
            assert [route["authorization"] for route in cluster.routes] == ["Bearer one", "Bearer two"]

    run(work)


def test_a_node_that_opens_and_says_nothing_is_left_for_another(cluster: FakeCluster) -> None:
    async def work() -> None:
        cluster.greet("n1", "silent")
        async with connected(cluster, open_timeout_s=0.3) as alice:
            assert alice.state is State.OPEN
            assert cluster.routes[-1]["avoid"] == "n1"

    run(work)


@pytest.mark.parametrize("text", [
    "hello", "[]", "null", '{"t": "welcome"}', '{"t": "welcome", "node": 7, "gen": 7, "epoch": 1}',
    '{"t": "welcome", "node": "n1", "gen": "7", "epoch": 1}',
])
def test_a_node_that_does_not_speak_the_protocol_is_left_for_another(cluster: FakeCluster, text: str) -> None:
    async def work() -> None:
        cluster.greet("n1", "say", text)
        async with connected(cluster) as alice:
            assert alice.state is State.OPEN
            assert cluster.routes[-1]["avoid"] == "n1"

    run(work)


def test_a_node_that_falls_silent_is_pinged_and_then_left(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness_module, "PONG_S", 0.3)

    async def work() -> None:
        cluster.set("n1", "ping_s", 0.2)
        async with connected(cluster, open_timeout_s=0.3) as alice:
            await until(lambda: any(frame["t"] == "ping" for frame in cluster.heard))
            await asyncio.sleep(0.6)  # longer than ping and pong time: the answers keep it alive
            assert len(cluster.handshakes) == 1
            cluster.freeze("n1")
            await until(lambda: alice.node == "n2")
            cluster.thaw("n1")

    run(work)


def test_an_application_that_is_slower_than_ping_and_pong_keeps_its_connection(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness_module, "PONG_S", 0.2)

    async def work() -> None:
        cluster.set("n1", "ping_s", 0.1)
        async with connected(cluster, inbox_limit=2) as alice:
            for number in range(10):
                await verb(cluster.push, "u:alice", number)
            await asyncio.sleep(1)  # longer than ping and pong: the test's subject
            assert [(await alice.receive(5)).body for _ in range(10)] == list(range(10))
            await alice.send("bob", "still here")
            assert len(cluster.handshakes) == 1

    run(work)


def test_each_time_out_says_what_did_not_come(cluster: FakeCluster) -> None:
    async def work() -> None:
        await verb(cluster.set, "n1", "mute_ok", True)
        async with connected(cluster) as alice:
            receipt = alice.send("bob", 1)
            for waiting, text in (
                (alice.receive(0.05), "no message within 0.05 s"),
                (alice.flush(0.05), "1 messages have no ok after 0.05 s"),
                (receipt.result(0.05), f"no ok for {receipt.id} within 0.05 s"),
            ):
                with pytest.raises(TimeoutError, match=text):
                    await waiting

    run(work)


def test_nothing_is_lost_while_the_log_is_away(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Message] = []
        async with connected(cluster) as alice, connected(cluster, "bob", on_message=got.append):
            cluster.set("n1", "unavailable", True)
            receipts = [alice.send("bob", number) for number in range(5)]
            await until(lambda: len([frame for frame in cluster.heard if frame["t"] == "send"]) >= 5)
            assert not any(receipt.done for receipt in receipts)
            cluster.set("n1", "unavailable", False)
            for receipt in receipts:
                await receipt.result(10)
            await until(lambda: len(got) == 5)
            assert bodies(got) == list(range(5))

    run(work)


def test_what_was_kept_goes_out_at_the_rate_that_the_node_allows(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Message] = []
        cluster.set("n1", "rate", 100)
        client = AsyncClient(cluster.urls, "alice", on_message=got.append)
        for number in range(700):
            client.send("alice", number)
        try:
            await client.connect()
            await client.flush(20)
            await until(lambda: len(got) == 700)
            assert bodies(got) == list(range(700))
            assert cluster.closes == [], "the node's limit was never passed"
            assert len(cluster.handshakes) == 1
        finally:
            await client.close()

    run(work)


def test_what_waits_to_be_written_does_not_overtake_what_was_refused(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Message] = []
        cluster.set("n1", "rate", 20)
        cluster.set("n1", "unavailable", True)
        async with connected(cluster, on_message=got.append) as alice:
            for number in range(100):  # 80 at once, the others wait
                alice.send("alice", number)
            await until(lambda: alice._talk.held)
            await verb(cluster.set, "n1", "unavailable", False)
            await alice.flush(20)
            assert bodies(got) == list(range(100))

    run(work)


def test_what_the_log_may_no_longer_know_is_not_sent_again_and_the_application_is_told(cluster: FakeCluster) -> None:
    async def work() -> None:
        errors: list[ClientError] = []
        cluster.set("n1", "mute_ok", True)
        cluster.set("n1", "dedup_s", 0.001)
        async with connected(cluster, on_error=errors.append) as alice:
            waiting, alone = alice.send("bob", 1), alice.send("bob", 2)
            answer = asyncio.create_task(waiting.result())
            await until(lambda: [frame["t"] for frame in cluster.heard].count("send") == 2)
            await verb(cluster.drop_all, "n1")
            with pytest.raises(Unconfirmed, match="it may have arrived"):
                await answer
            assert isinstance(alone.error, Unconfirmed)
            assert [str(error) for error in errors] == [str(alone.error)], "the other one's sender knows it already"
            await until(lambda: alice.state is State.OPEN)
            cluster.set("n1", "mute_ok", False)
            await alice.send("bob", 3)
        assert [frame["body"] for frame in cluster.heard if frame["t"] == "send"] == [1, 2, 3]

    run(work)


def test_the_outbox_is_bounded_and_says_so(cluster: FakeCluster) -> None:
    async def work() -> None:
        cluster.set("n1", "mute_ok", True)
        async with connected(cluster, outbox_limit=3) as alice:
            receipts = [alice.send("bob", number) for number in range(3)]
            with pytest.raises(SendBufferFull, match="3 messages already wait"):
                alice.send("bob", 4)
            with pytest.raises(TimeoutError):
                await alice.flush(0.1)
        for receipt in receipts:
            with pytest.raises(ClientClosed):
                await receipt

    run(work)


def test_unread_messages_come_first_and_are_acknowledged_when_handled(cluster: FakeCluster) -> None:
    async def work() -> None:
        for number in range(3):
            await verb(cluster.push, "u:alice", number)
        async with connected(cluster) as alice:
            assert [(await alice.receive(5)).body for _ in range(3)] == [0, 1, 2]
        # The last one was handed out, and nothing says that it was handled.
        await until(lambda: cluster.logs["u:alice"].cursor == 2)
        got: list[Message] = []
        async with connected(cluster, on_message=got.append):
            await until(lambda: got)
        assert bodies(got) == [2]
        await until(lambda: cluster.logs["u:alice"].cursor == 3)

    run(work)


def test_without_auto_ack_the_application_decides(cluster: FakeCluster) -> None:
    async def work() -> None:
        await verb(cluster.push, "u:alice", 1)
        await verb(cluster.push, "u:alice", 2)
        async with connected(cluster, auto_ack=False) as alice:
            first = await alice.receive(5)
            await alice.receive(5)
            alice.ack(first)
            await until(lambda: cluster.logs["u:alice"].cursor == 1)

    run(work)


def test_an_async_callback_has_one_message_at_a_time_and_its_failure_stops_nothing(cluster: FakeCluster) -> None:
    async def work() -> None:
        got: list[Any] = []
        take = one_at_a_time(got, 0.01)

        async def on_message(message: Message) -> None:
            await take(message)
            if message.body == 1:
                raise RuntimeError("the application's own")

        async with connected(cluster, on_message=on_message) as alice:
            for number in range(4):
                await alice.send("alice", number)
            await until(lambda: len(got) == 4)
            assert got == [0, 1, 2, 3]

    run(work)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_slow_async_callback_has_each_message_once_whatever_is_read_ahead(cluster: FakeCluster, limit: int) -> None:
    async def work() -> None:
        got: list[Any] = []
        async with connected(cluster, on_message=one_at_a_time(got, 0.001), inbox_limit=limit):
            await verb(lambda: [cluster.push("u:alice", number) for number in range(50)])
            await until(lambda: len(got) >= 50)
            await asyncio.sleep(0.05)
            assert got == list(range(50))

    run(work)


def test_an_inbox_that_is_full_does_not_keep_an_ok_from_who_waits_for_it(cluster: FakeCluster) -> None:
    async def work() -> None:
        async with connected(cluster, inbox_limit=2) as alice:
            await verb(lambda: [cluster.push("u:alice", number) for number in range(2)])
            await until(lambda: len(alice._messages) == 2)
            async with asyncio.timeout(5):
                assert await alice.send("bob", "hello") == 1
            assert [(await alice.receive(5)).body for _ in range(2)] == [0, 1]

    run(work)


def test_a_lost_stretch_is_reported_before_what_follows(cluster: FakeCluster) -> None:
    async def work() -> None:
        gaps: list[Gap] = []
        for number in range(9):
            await verb(cluster.push, "u:alice", number)
        async with connected(cluster, on_gap=gaps.append) as alice:
            for _ in range(3):
                await alice.receive(5)
        cluster.lose_log("u:alice", "log1", 7)
        async with connected(cluster, on_gap=gaps.append) as alice:
            assert (await alice.receive(5)).body == 7
        assert gaps == [Gap("u:alice", None, "log1", 8)]

    run(work)


class Kept:
    """A store of positions that outlives the client."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        return self.kept

    def save(self, positions: Any) -> None:
        self.kept = dict(positions)


def test_kept_positions_go_on_after_a_restart_whatever_other_devices_have_read(cluster: FakeCluster) -> None:
    async def work() -> None:
        store = Kept()
        got: list[Message] = []
        await verb(cluster.push, "u:alice", 1)
        async with connected(cluster, positions=store, on_message=got.append) as alice:
            await alice.join("room", Position("log1", 0))
            await until(lambda: got)
        assert store.kept == {"u:alice": "log1:1"}
        await verb(cluster.push, "u:alice", 2)
        async with connected(cluster, on_message=got.append):
            await until(lambda: cluster.logs["u:alice"].cursor == 2)
        async with connected(cluster, positions=store, on_message=got.append):
            await until(lambda: len(got) == 3)
        assert bodies(got) == [1, 2, 2]

    run(work)


def test_a_members_second_device_gets_what_only_the_first_has_read_without_a_second_connection(
    cluster: FakeCluster,
) -> None:
    async def work() -> None:
        cluster.add_member("alice", "team")
        store = Kept()
        got: list[Message] = []
        gaps: list[Gap] = []
        await verb(cluster.push, "g:team", 1)
        async with connected(cluster, positions=store, on_message=got.append):
            await until(lambda: cluster.logs["g:team"].cursor == 1)
        await verb(cluster.push, "g:team", 2)
        async with connected(cluster):
            cluster.logs["g:team"].cursor = 2  # read on the other device
            await verb(cluster.push, "g:team", 3)
        before = len(cluster.handshakes)
        async with connected(cluster, positions=store, on_message=got.append, on_gap=gaps.append):
            await until(lambda: len(got) == 3)
        assert bodies(got) == [1, 2, 3]
        assert gaps == []
        assert len(cluster.handshakes) == before + 1

    run(work)


def test_a_place_is_kept_before_any_message_comes_so_what_comes_during_a_restart_is_had(cluster: FakeCluster) -> None:
    async def work() -> None:
        store = Kept()
        got: list[Message] = []
        async with connected(cluster, positions=store, groups=["room"]):
            await until(lambda: store.kept == {"u:alice": "log1:0", "g:room": "log1:0"})
        await verb(cluster.push, "g:room", 1)
        async with connected(cluster, positions=store, groups=["room"], on_message=got.append):
            await until(lambda: got)
        assert bodies(got) == [1]

    run(work)


def test_a_group_whose_place_is_kept_is_joined_until_it_is_left(cluster: FakeCluster) -> None:
    async def work() -> None:
        store = Kept()
        store.kept = {"g:room": "log1:0"}
        await verb(cluster.push, "g:room", 1)
        async with connected(cluster, positions=store) as alice:
            assert (await alice.receive(5)).body == 1
            alice.leave("room")
            await until(lambda: store.kept == {"u:alice": "log1:0"})  # killed now, the process does not come back to it
        async with connected(cluster, positions=store) as alice:
            await alice.send("alice", "end")
        assert [frame["t"] for frame in cluster.heard] == ["join", "leave", "send"]

    run(work)


def test_a_volatile_message_fails_with_its_connection(cluster: FakeCluster) -> None:
    async def work() -> None:
        cluster.set("n1", "mute_ok", True)
        async with connected(cluster) as alice:
            receipt = alice.send("bob", 1, volatile=True)
            await until(lambda: any(frame["t"] == "send" for frame in cluster.heard))
            await verb(cluster.drop_all, "n1")
            with pytest.raises(Unavailable):
                await receipt

    run(work)


def test_late_events_of_an_old_connection_change_nothing(cluster: FakeCluster) -> None:
    async def work() -> None:
        states: list[State] = []
        async with connected(cluster, on_state=lambda state, _: states.append(state)) as alice:
            cluster.freeze("n1")  # the old node will not even answer the close
            await verb(cluster.move, "n2")
            await until(lambda: alice.node == "n2")
            before = list(states)
            cluster.thaw("n1")
            await verb(cluster.close_all, "n1", 4010)  # the old node's last word comes too late
            await until(lambda: cluster.count("n1") == 0)
            await alice.send("alice", 1)
            assert states == before

    run(work)


def test_after_close_nothing_happens_any_more(cluster: FakeCluster) -> None:
    async def work() -> None:
        for greeting in (("silent",), ("close", 4100), ("close", 4300, 60_000)):
            cluster.greet("n1", *greeting)
            client = AsyncClient(cluster.urls, "alice")
            await client.connect(wait=False)
            await until(lambda: not cluster.nodes["n1"].greetings)
            await client.close()
            seen = len(cluster.handshakes), len(cluster.routes)
            await asyncio.sleep(0.3)
            assert (len(cluster.handshakes), len(cluster.routes)) == seen
            assert client.state is State.CLOSED
            with pytest.raises(ClientClosed):
                await client.connect()

    run(work)


def test_many_clients_fit_in_one_process(cluster: FakeCluster) -> None:
    async def work() -> None:
        before = len(asyncio.all_tasks())
        clients = [AsyncClient(cluster.urls, f"user{number}") for number in range(200)]
        await asyncio.gather(*(client.connect() for client in clients))
        assert {client.state for client in clients} == {State.OPEN}
        assert len(asyncio.all_tasks()) <= 2 * len(clients) + 10
        await asyncio.gather(*(client.close() for client in clients))
        assert len(asyncio.all_tasks()) == before

    run(work)
    gc.collect()
