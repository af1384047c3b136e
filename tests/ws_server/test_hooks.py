from __future__ import annotations

from typing import Any

import gevent
import pytest

from ringway.ws_server.hooks import WAITING, Hooks, Mailbox


class Conn:
    """Writes down when it was told to read no more, and to read again."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


class FakeSession:
    def __init__(self) -> None:
        self.conn = Conn()


@pytest.fixture
def session() -> Any:
    return FakeSession()


def broken(*_: object) -> bool:
    raise RuntimeError("as asked")


def test_connect_handlers_refuse_by_false_or_by_failing(session: Any) -> None:
    for handlers, accepted in (([], True), ([lambda s: None], True), ([lambda s: True, lambda s: False], False),
                               ([broken], False)):
        hooks = Hooks()
        hooks.connect = list(handlers)
        assert hooks.accepts(session) is accepted


def test_authorize_allows_by_true_alone(session: Any) -> None:
    hooks = Hooks()
    assert hooks.allows(session, "send", "bob")
    for handler, allowed in ((lambda *a: True, True), (lambda *a: None, False), (lambda *a: 1, False), (broken, False)):
        hooks.authorize = handler
        assert hooks.allows(session, "send", "bob") is allowed
    assert hooks.errors == {"authorize": 1}


def test_a_mailbox_works_in_order_one_at_a_time(session: Any) -> None:
    mailbox, done = Mailbox(session), []

    def work(n: int) -> None:
        gevent.sleep(0)
        done.append(n)

    for n in range(5):
        mailbox.put(work, n)
    mailbox.put(broken)
    mailbox.put(work, 5)
    while len(done) < 6:
        gevent.sleep(0)
    assert done == [0, 1, 2, 3, 4, 5]


def test_too_much_waiting_work_stops_the_reading(session: Any) -> None:
    mailbox, gate = Mailbox(session), gevent.event.Event()
    for _ in range(WAITING + 1):
        mailbox.put(gate.wait)
    assert session.conn.calls == ["pause"]
    gate.set()
    for _ in range(5):
        gevent.sleep(0)
    assert session.conn.calls == ["pause", "resume"]
