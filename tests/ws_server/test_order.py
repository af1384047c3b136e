"""A message that has to be sent again is not overtaken by later ones of its session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Self

import gevent
import pytest

from ringway.core.errors import Unavailable
from ringway.store.keys import Keys
from ringway.store.log import Appended, Take
from ringway.store.retained import Append
from ringway.ws_server.batcher import Batcher
from ringway.ws_server.burst import Burst
from ringway.ws_server.order import PATIENCE_S, Order
from ringway.ws_server.redis_link import RedisLink
from tests.harness import redises, zookeepers
from tests.harness.delays import DelayProxy

from .nodes import Client, Nodes


def test_what_was_refused_goes_first_when_it_comes_again() -> None:
    order = Order()
    order.refused("s", "u:bob", 1, "a", 0.0)
    order.refused("s", "u:bob", 2, "b", 0.0)
    assert not order.admits("s", "u:bob", 3, "c", 1.0)
    assert not order.admits("s", "u:bob", 4, "b", 1.0)
    assert [order.admits("s", "u:bob", 5 + i, id, 1.0) for i, id in enumerate("abc")] == [True] * 3


def test_it_concerns_one_session_and_one_channel() -> None:
    order = Order()
    order.refused("s", "u:bob", 1, "a", 0.0)
    assert order.admits("s", "u:eve", 2, "b", 1.0)
    assert order.admits("t", "u:bob", 3, "b", 1.0)


def test_the_earliest_is_waited_for_whenever_its_refusal_is_known() -> None:
    order = Order()
    order.refused("s", "u:bob", 2, "b", 0.0)
    assert order.admits("s", "u:bob", 1, "a", 0.0)
    order.refused("s", "u:bob", 1, "a", 0.0)
    assert not order.admits("s", "u:bob", 3, "b", 1.0)
    assert order.admits("s", "u:bob", 4, "a", 1.0)


def test_refused_again_and_again_it_stays_the_first() -> None:
    order = Order()
    for now in (0.0, 20.0, 40.0, 60.0):
        assert order.admits("s", "u:bob", int(now) + 1, "a", now)
        order.refused("s", "u:bob", int(now) + 1, "a", now)
        order.refused("s", "u:bob", int(now) + 2, "b", now)
    assert not order.admits("s", "u:bob", 100, "b", 70.0)


def test_a_client_that_gives_it_up_may_go_on_after_a_while() -> None:
    order = Order()
    order.refused("s", "u:bob", 1, "a", 0.0)
    assert not order.admits("s", "u:bob", 2, "b", PATIENCE_S)
    assert order.admits("s", "u:bob", 3, "b", PATIENCE_S + 1)
    order.refused("t", "u:bob", 4, "c", 0.0)
    order.refused("u", "u:bob", 5, "d", PATIENCE_S + 1)
    assert len(order) == 1


class FakeLog:
    """Fails the batches it is told to, after others have had time to gather behind them."""

    def __init__(self, *outcomes: bool) -> None:
        self.outcomes = list(outcomes)
        self.ids: list[str] = []

    def append_each(self, appends: Sequence[Append], take: Take) -> None:
        gevent.sleep(0.01)
        fails = self.outcomes and not self.outcomes.pop(0)
        for number, append in enumerate(appends):
            if fails:
                take([(number, Unavailable("redis", "as told"))])
            else:
                self.ids.append(append.id)
                take([(number, Appended(append.ch, append.id, "g", len(self.ids), False, b"", 0))])


class Line:
    """A batcher over a log that fails when told, and what each message's sender was told."""

    def __init__(self, log: FakeLog) -> None:
        self.log, self.told = log, dict[str, str]()
        self._link = RedisLink(lambda: None)
        self._batcher = Batcher(log, None, Keys(), self._link, Burst())  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        self._batcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.stop()
        self._link.stop()

    def send(self, *ids: str, sid: str = "s") -> None:
        for id in ids:
            self._batcher.append(Append("u:bob", "alice", id, b"1"), partial(self._tell, id), sid=sid)

    def _tell(self, id: str, result: Appended | Unavailable) -> None:
        self.told[id] = "ok" if isinstance(result, Appended) else "unavailable"

    def answers(self) -> dict[str, str]:
        gevent.sleep(0.1)
        return self.told


def test_what_was_queued_behind_a_failed_batch_is_refused_with_it() -> None:
    with Line(FakeLog(False)) as line:
        line.send("1")
        gevent.sleep(0)
        line.send("2", "3")
        line.send("x", sid="another")
        gevent.sleep(0.1)
        line.send("4")  # on its way before its sender knew
        assert set(line.answers().values()) == {"unavailable"}
        line.send("1", "2", "3", "4")
        line.send("x", sid="another")
        assert set(line.answers().values()) == {"ok"}
    assert [id for id in line.log.ids if id != "x"] == ["1", "2", "3", "4"]


def test_the_message_waited_for_may_fail_once_more() -> None:
    with Line(FakeLog(False, False)) as line:
        line.send("1")
        gevent.sleep(0)
        line.send("2")
        gevent.sleep(0.1)
        line.send("1")
        gevent.sleep(0)
        line.send("2")
        assert line.answers() == {"1": "unavailable", "2": "unavailable"}
        line.send("1", "2")
        assert line.answers() == {"1": "ok", "2": "ok"}
    assert line.log.ids == ["1", "2"]


@pytest.fixture
def proxy(own_redis: redises.RealRedis) -> Iterator[DelayProxy]:
    with DelayProxy(f"127.0.0.1:{own_redis.port}") as proxy:
        yield proxy


def as_an_sdk(client: Client, uid: str, numbers: Sequence[int]) -> None:
    """Send these; after an `unavailable` send what has no ok again, in its order; until all have theirs."""
    waiting = dict.fromkeys(f"{n}" for n in numbers)
    while waiting:
        for n in waiting:
            client.send(t="send", id=n, to=uid, body=int(n))
        answer: dict[str, Any] = {"t": "ok"}
        while waiting and answer["t"] == "ok":
            answer = client.read(10.0)
            _heed(answer, waiting)
        for answer in client.quiet(0.2):
            _heed(answer, waiting)


def _heed(answer: dict[str, Any], waiting: dict[str, None]) -> None:
    if answer["t"] == "ok":
        waiting.pop(answer["id"], None)
    else:
        assert answer["code"] == "unavailable"


def test_a_redis_that_fails_one_batch_changes_no_order(
    zookeeper_server: zookeepers.Provider, own_redis: redises.RealRedis, proxy: DelayProxy
) -> None:
    with Nodes(zookeeper_server.address, f"redis://{proxy.address}/0", "o1") as running:
        receiver, sender = running.join("order-to"), running.join("order-from")
        for round_ in range(3):
            numbers = list(range(round_ * 40, round_ * 40 + 40))
            proxy.bait, proxy.delay_s, proxy.swallow = b'"t":"msg"', 0.05, 2  # redis-py tries once more by itself
            sender.send(t="send", id=f"{numbers[0]}", to="order-to", body=numbers[0])
            as_an_sdk(sender, "order-to", numbers)
            assert proxy.swallow == 0
        assert receiver.bodies(120) == list(range(120))
