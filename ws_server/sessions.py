"""Sessions and users of this node: who is connected here. No I/O.

A session is one WebSocket; a user may have several (tabs, devices), and all of them are on this node, because the ring
places users. Sessions are compared by identity, never by uid, so that the end of an old one cannot erase a newer one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from ringway.core.close_codes import CloseCode
from ringway.core.frames import body_json, volatile_msg
from ringway.core.ring import Arc
from ringway.core.session_index import SessionIndex

from .channels import Channel
from .wire import encode_text

if TYPE_CHECKING:
    from .connection import Connection

CATCH_UP_BYTES = 512 * 1024  # a catch-up fills at most half of the outgoing queue; live messages have the rest


class Session:
    """One WebSocket of a user. `data` belongs to the application.

    `sid` is public and names the session in logs; `roles` come from the ticket; `groups` is None until it joins one.
    `early` waits, before it is welcomed, for the groups to which the user belongs for good; None once they are known.
    """

    __slots__ = (
        "bad_frames", "bucket", "conn", "data", "early", "going", "groups", "mailbox", "moving", "roles", "sid", "user",
    )  # fmt: skip

    def __init__(self, conn: Connection, user: User, sid: str, roles: tuple[str, ...]) -> None:
        self.conn = conn
        self.user = user
        self.sid = sid
        self.roles = roles
        self.groups: dict[str, Channel] | None = None
        self.early: list[Callable[[set[str]], object]] | None = []
        self.mailbox: Any = None
        self.bucket: Any = None
        self.data: Any = None
        self.bad_frames = 0
        self.moving = False  # told to move
        self.going = False  # and it has said, since it was last looked at, that it is about to

    @property
    def uid(self) -> str:
        return self.user.uid

    def send(self, body: Any, *, id: str = "app") -> None:
        """A volatile `msg` to this session alone. Args: body: any JSON value; id: for the client to tell it by.

        Raises InvalidInput where the body is no JSON, or nested too deep.
        """
        text, now_ms = orjson.Fragment(body_json(body)), int(time.time() * 1000)
        frame = volatile_msg(ch=self.user.inbox.ch, id=id, sender="", body=text, ts=now_ms)
        self.send_frame(encode_text(frame))

    def send_text(self, text: bytes) -> None:
        """A text message as it is (UTF-8), for applications with a format of their own."""
        self.conn.send_frame(encode_text(text))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session. 1000 and 4000-4099 tell the client not to come back by itself.

        Args:
            reason: for people; cut to 123 bytes.

        Raises:
            InvalidInput: a code that RFC 6455 does not let travel, such as 1006; nothing has changed.
        """
        self.conn.close(code, reason, "application")

    def send_frame(self, wire: bytes) -> None:
        """Queue a frame that is encoded for the wire already."""
        self.conn.send_frame(wire)

    def room(self) -> int:
        """Bytes of history that may be queued now; at most 0 while the client reads slowly."""
        return CATCH_UP_BYTES - self.conn.buffered

    def __repr__(self) -> str:
        return f"<session {self.sid} of {self.user.uid!r}>"


class PackedSession(Session):
    """On a connection with permessage-deflate. A class of its own, so that the others do not even look."""

    __slots__ = ()

    def send_text(self, text: bytes) -> None:
        self.send_frame(encode_text(text))

    def send_frame(self, wire: bytes) -> None:
        assert self.conn.deflate is not None
        self.conn.send_frame(self.conn.deflate.pack(wire))


class User:
    """A user with at least one session here. `position` is the uid's hash; `inbox` the user's own channel.

    `away` names the owner that was down when the user was placed here instead; `unsure` marks a placement by a newer
    ring than this node had: the next ring decides.
    """

    __slots__ = ("away", "inbox", "position", "sessions", "uid", "unsure")

    def __init__(self, uid: str, position: int) -> None:
        self.uid = uid
        self.position = position
        self.inbox = Channel(f"u:{uid}")
        self.sessions: tuple[Session, ...] = ()
        self.away: str | None = None
        self.unsure = False

    def __repr__(self) -> str:
        return f"<user {self.uid!r} with {len(self.sessions)} sessions>"


class Sessions:
    """The registry: users by uid, and by ring position for asking whom a change moves."""

    def __init__(self, key: Callable[[str], int]) -> None:
        """Args: key: the ring's hash of a uid."""
        self._key = key
        self._index: SessionIndex[User] = SessionIndex()
        self.users: dict[str, User] = {}
        self.count = 0

    def get(self, uid: str) -> User | None:
        return self.users.get(uid)

    def user(self, uid: str) -> User:
        """The user, made when absent. One without a session is not registered until `add`."""
        return self.users.get(uid) or User(uid, self._key(uid))

    def add(self, session: Session) -> bool:
        """Register a session; True for the user's first one here."""
        user = session.user
        first = not user.sessions
        if first:
            self.users[user.uid] = user
            self._index.add(user.position, user)
        user.sessions = (*user.sessions, session)
        self.count += 1
        return first

    def remove(self, session: Session) -> bool:
        """Forget exactly this session; True if it was the user's last one here. One that is not there is no error."""
        user = session.user
        if session not in user.sessions:
            return False
        left = tuple([other for other in user.sessions if other is not session])
        user.sessions = left
        self.count -= 1
        if left:
            return False
        del self.users[user.uid]
        self._index.remove(user.position, user)
        return True

    def in_arcs(self, arcs: Iterable[Arc]) -> list[User]:
        """The users whose owner a ring change changed."""
        return self._index.in_arcs(arcs)

    def __iter__(self) -> Iterator[Session]:
        """All sessions, as of now: the registry may change meanwhile."""
        return iter([session for user in self.users.values() for session in user.sessions])
