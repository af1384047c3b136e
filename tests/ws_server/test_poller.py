"""All pollers, by the same rules."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from ringway.ws_server.endpoint import Counters
from ringway.ws_server.poller import NONE, READ, WRITE, EpollPoller, Poller
from tests.ws_server.both import POLLERS
from tests.ws_server.serving import until


class Owner:
    def __init__(self, on_call: Callable[[], None] = lambda: None) -> None:
        self.calls: list[str] = []
        self._on_call = on_call

    def on_readable(self) -> None:
        self.calls.append("read")
        self._on_call()

    def on_writable(self) -> None:
        self.calls.append("write")
        self._on_call()

    def on_failed(self) -> None:
        self.calls.append("failed")


@pytest.fixture(params=POLLERS)
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    poller = request.param(gevent.get_hub().loop, Counters())
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


Pair = tuple[socket.socket, socket.socket]


def test_readable_and_writable_are_told_apart(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    descriptor = ours.fileno()
    owner = Owner(lambda: poller.watch(descriptor, owner, NONE))
    poller.watch(descriptor, owner, READ)
    gevent.sleep(0.01)
    assert owner.calls == []
    theirs.send(b"x")
    until(lambda: owner.calls == ["read"])
    poller.watch(descriptor, owner, WRITE)
    until(lambda: owner.calls == ["read", "write"])
    gevent.sleep(0.01)
    assert owner.calls == ["read", "write"]
    poller.forget(descriptor)


def test_a_forgotten_descriptor_calls_nobody_and_forgetting_twice_is_no_error(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner()
    poller.watch(ours.fileno(), owner, READ)
    assert len(poller) == 1
    poller.forget(ours.fileno())
    poller.forget(ours.fileno())
    theirs.send(b"x")
    gevent.sleep(0.01)
    assert (owner.calls, len(poller)) == ([], 0)


def test_the_owner_can_be_changed(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    first, second = Owner(), Owner(lambda: poller.forget(ours.fileno()))
    poller.watch(ours.fileno(), first, READ)
    poller.watch(ours.fileno(), second, READ)
    theirs.send(b"x")
    until(lambda: second.calls == ["read"])
    assert first.calls == []


def test_a_hung_up_peer_is_readable(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    owner = Owner(lambda: poller.forget(ours.fileno()))
    poller.watch(ours.fileno(), owner, READ)
    theirs.close()
    until(lambda: owner.calls == ["read"])


def test_a_callback_may_forget_others_of_the_same_turn(poller: Poller) -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    owners: list[Owner] = []

    def forget_all() -> None:
        for ours, _ in pairs:
            poller.forget(ours.fileno())

    for ours, theirs in pairs:
        owners.append(Owner(forget_all))
        theirs.send(b"x")
        poller.watch(ours.fileno(), owners[-1], READ)
    until(lambda: any(owner.calls for owner in owners))
    gevent.sleep(0.01)
    assert sum(len(owner.calls) for owner in owners) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_epoll_keeps_the_kernels_order() -> None:
    poller = EpollPoller(gevent.get_hub().loop)
    pairs = [socket.socketpair() for _ in range(20)]
    order: list[int] = []

    def note(number: int, descriptor: int) -> Callable[[], None]:
        def call() -> None:
            order.append(number)
            poller.forget(descriptor)

        return call

    for number, (ours, _) in enumerate(pairs):
        poller.watch(ours.fileno(), Owner(note(number, ours.fileno())), READ)
    for _, theirs in pairs:
        theirs.send(b"x")
    until(lambda: len(order) == 20)
    assert order == list(range(20))
    poller.close()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_an_owner_whose_callback_raised_is_logged_forgotten_and_told(
    poller: Poller, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("broken owner")

    ours, theirs = pair
    owner = Owner(fail)
    poller.watch(ours.fileno(), owner, READ)
    theirs.send(b"x")
    until(lambda: len(poller) == 0)
    assert "broken owner" in caplog.text
    assert owner.calls == ["read", "failed"]
