from __future__ import annotations

from typing import Any

from ringway.core.hashing import hashing
from ringway.core.ring import Ring, moved_arcs
from ringway.ws_server.sessions import Session, Sessions, User

XXH = hashing("xxh64-v1")


class Conn:
    """A connection that takes everything."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.buffered = 0

    def send_frame(self, wire: bytes) -> None:
        self.sent.append(wire)


def open_session(sessions: Sessions, uid: str, sid: str = "s") -> Session:
    conn: Any = Conn()
    session = Session(conn, sessions.user(uid), sid, ())
    sessions.add(session)
    return session


def test_tabs_of_a_user_share_one_user() -> None:
    sessions = Sessions(XXH.key)
    one, two = open_session(sessions, "alice"), open_session(sessions, "alice")
    assert one.user is two.user
    assert one.user.sessions == (one, two)
    assert (sessions.count, len(sessions.users)) == (2, 1)


def test_the_end_of_an_old_session_leaves_the_newer_one() -> None:
    sessions = Sessions(XXH.key)
    old, new = open_session(sessions, "alice"), open_session(sessions, "alice")
    assert sessions.remove(old) is False
    assert sessions.remove(old) is False
    user = sessions.get("alice")
    assert user is not None
    assert user.sessions == (new,)
    assert sessions.count == 1


def test_first_and_last_session_are_told() -> None:
    sessions = Sessions(XXH.key)
    conn: Any = Conn()
    first = Session(conn, sessions.user("alice"), "1", ())
    assert sessions.add(first) is True
    second = Session(conn, sessions.user("alice"), "2", ())
    assert sessions.add(second) is False
    assert sessions.remove(first) is False
    assert sessions.remove(second) is True
    assert sessions.get("alice") is None
    assert len(sessions.users) == 0


def test_a_user_who_returns_while_the_old_session_closes_is_kept() -> None:
    sessions = Sessions(XXH.key)
    old = open_session(sessions, "alice")
    sessions.remove(old)
    new = open_session(sessions, "alice")
    assert new.user is not old.user
    sessions.remove(old)
    user = sessions.get("alice")
    assert user is not None
    assert user.sessions == (new,)


def test_moved_users_equal_the_brute_force_set() -> None:
    sessions = Sessions(XXH.key)
    uids = [f"user-{i}" for i in range(3000)]
    for uid in uids:
        open_session(sessions, uid)
    old = Ring.build({"a": 64, "b": 64, "c": 64}, XXH)
    new = old.with_weights({"a": 64, "b": 32, "c": 64, "d": 128})
    moved: list[User] = sessions.in_arcs(moved_arcs(old, new))
    assert {user.uid for user in moved} == {uid for uid in uids if old.owner(uid) != new.owner(uid)}
    assert len(moved) == len(set(moved))


def test_history_may_fill_half_the_queue() -> None:
    sessions = Sessions(XXH.key)
    session = open_session(sessions, "alice")
    conn: Any = session.conn
    assert session.room() > 0
    conn.buffered = 1 << 19
    assert session.room() <= 0
