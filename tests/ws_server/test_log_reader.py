"""Reads for many sessions in one pipeline: what goes wrong with one is not the others' affair."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import gevent
import pytest

from ringway.core.close_codes import CloseCode
from ringway.store.arrivals import Arrival
from ringway.store.keys import Keys
from ringway.store.log import Entries
from ringway.ws_server.lanes import QUEUE_LIMIT
from ringway.ws_server.log_reader import LogPage, LogReader, Unread
from ringway.ws_server.redis_link import RedisLink
from ringway.ws_server.sessions import Session, User


@dataclass(eq=False)
class Conn:
    """What the reader needs of a connection."""

    sent: list[bytes] = field(default_factory=list)
    closed: int | None = None
    buffered: int = 0

    def send_frame(self, wire: bytes) -> None:
        self.sent.append(wire)

    def close(self, code: int, reason: str, cause: str) -> None:
        self.closed = code


class EmptyLog:
    """Inboxes in which there is nothing."""

    def arrive(self, arrivals: Sequence[Arrival], limit: int) -> list[tuple[Entries, list[str]]]:
        return [(Entries("g", 0, 1, True, [], False, 0), []) for _ in arrivals]


class Reader:
    """A reader of empty inboxes, and the users it has let in."""

    def __init__(self) -> None:
        self.link = RedisLink(lambda: None)
        self.reader = LogReader(EmptyLog(), None, Keys(), self.link)  # type: ignore[arg-type]
        self.welcomed: list[str] = []

    def enter(self, uid: str, *, fails: bool = False) -> Session:
        session = Session(Conn(), User(uid, 0), f"s-{uid}", ())  # type: ignore[arg-type]

        def welcome(page: LogPage | None) -> bool:
            if fails:
                raise ValueError("no welcome")
            self.welcomed.append(uid if page is not None else f"{uid} without Redis")
            return True

        self.reader.catch_up(session, session.user.inbox, Unread(uid), welcome)
        return session

    def wait_for(self, count: int) -> list[str]:
        with gevent.Timeout(20.0):
            while len(self.welcomed) < count:
                gevent.sleep(0.01)
        return self.welcomed


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    made.reader.start()
    yield made
    made.reader.stop()
    made.link.stop()


def test_an_error_in_one_sessions_welcome_ends_that_session_alone(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        sessions = [reader.enter(uid, fails=uid == "b") for uid in "abc"]
        assert reader.wait_for(2) == ["a", "c"]
    conns = [session.conn for session in sessions]
    assert [conn.closed for conn in conns] == [None, CloseCode.NODE_ERROR, None]
    assert "s-b" in caplog.text


def test_however_many_reads_wait_the_last_one_has_its_turn(reader: Reader) -> None:
    """It is not told that Redis is away because there is a queue, nor does it wait until Redis was."""
    crowd = reader.enter("crowd")
    for _ in range(QUEUE_LIMIT):
        reader.reader.catch_up(crowd, crowd.user.inbox, None, lambda _page: True)
    reader.enter("last")
    assert reader.welcomed == []
    assert reader.wait_for(1) == ["last"]
