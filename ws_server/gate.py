"""A connection becomes a session: ticket, admission, the application's word, registration, welcome; and its end.

A ticket that does not hold never fails the upgrade, because a browser could not see why: the connection is accepted and
closed at once with the code that says it. Everything here runs in the event loop; what has to wait (a refresh of the
ring, a connect handler) goes on in a greenlet and judges again afterwards, by the ring of then.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from typing import Any

import gevent

from ringway.core import frames, tickets
from ringway.core.close_codes import CloseCode, reason_text
from ringway.core.errors import (
    InvalidFrame,
    TicketError,
    TicketExpired,
    TicketForeign,
    TicketReused,
)
from ringway.core.frames import SUBPROTOCOL, Position
from ringway.core.history import RingHistory
from ringway.core.keys import KeyRing
from ringway.core.members import Member, Version
from ringway.core.tickets import RESUME_TTL_S, ReplayGuard, Ticket

from .admission import Admission, Verdict, admit
from .connection import Connection
from .dispatch import Dispatch
from .groups import Groups
from .handshake import Accept, Handshake, Refuse
from .hooks import Hooks, Mailbox
from .log_reader import LogPage, LogReader, Unread
from .sessions import PackedSession, Session, Sessions, User
from .wire import encode_text

log = logging.getLogger(__name__)

EARLY_FRAMES = 64  # messages of a connection that is not admitted yet
EARLY_BYTES = 131_072  # of these; the last one may go past it
REFRESH_S = 0.5
TRY_AGAIN_SPREAD_MS = 1000
_NO_RING = Version(0, 0)
_SPOKEN, _UNNAMED = Accept(SUBPROTOCOL), Accept()
_CODES: tuple[tuple[type[TicketError], CloseCode], ...] = (
    (TicketExpired, CloseCode.STALE_TICKET),
    (TicketReused, CloseCode.STALE_TICKET),
    (TicketForeign, CloseCode.WRONG_NODE),
    (TicketError, CloseCode.UNAUTHORIZED),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Who this node is, and how it issues tickets."""

    id: str
    url: str
    keys: KeyRing
    ping_s: float
    rate: float | None  # messages a second that a session may send


class Arriving:
    """What a connection's `user` is until it is a session."""

    __slots__ = ("early", "early_bytes", "inbox", "ticket")

    def __init__(self, ticket: Ticket, inbox: Position | None) -> None:
        self.ticket, self.inbox = ticket, inbox
        self.early: list[bytes] = []
        self.early_bytes = 0

    def hear(self, payload: bytes) -> bool:
        """Keep a message until the session is there; False when that is too much."""
        if len(self.early) >= EARLY_FRAMES or self.early_bytes >= EARLY_BYTES:
            return False
        self.early.append(payload)
        self.early_bytes += len(payload)
        return True


class Gate:
    """Lets connections in and out. Implements the acceptor's and the connection's callbacks."""

    def __init__(
        self, place: Place, history: RingHistory, sessions: Sessions, dispatch: Dispatch, reader: LogReader,
        groups: Groups, hooks: Hooks, *, refresh: Callable[[float], object], single: bool,
        on_first: Callable[[str], object], on_last: Callable[[str], object],
    ) -> None:
        """Args: refresh: asks for a newer ring, blocking so many seconds at most; single: one session a user;
        on_first, on_last: told of a user's first and last session on this node.

        `on_away` and `on_gone` are lists of callbacks: a user who is here in place of its owner, a session's end.
        """
        self._place, self._history, self._sessions = place, history, sessions
        self._dispatch, self._reader, self._groups, self._hooks = dispatch, reader, groups, hooks
        self._refresh, self._single = refresh, single
        self._on_first, self._on_last = on_first, on_last
        self._guard = ReplayGuard()
        self.on_away: list[Callable[[User], object]] = []
        self.on_gone: list[Callable[[Session], object]] = []
        self._sid_prefix, self._sids = token_hex(6), count(1)
        self.closing = False  # about to exit: nobody is let in any more
        self.admitted: Counter[str] = Counter()  # by verdict
        self.refused: Counter[str] = Counter()  # tickets by cause

    # The acceptor's and the connection's callbacks.

    def on_request(self, request: Handshake, /) -> Accept | Refuse:
        asked = "sec-websocket-protocol" in request.headers
        return _SPOKEN if asked and SUBPROTOCOL in request.subprotocols else _UNNAMED

    def on_open(self, connection: Connection, request: Handshake, /) -> None:
        try:
            ticket = self._ticket(request.query.get("ticket", ""))
            inbox = Position.parse(request.query["inbox"]) if "inbox" in request.query else None
        except TicketError as error:
            self.refused[error.cause] += 1
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            self._close(connection, code, f"ticket {error.cause}")
            return
        except InvalidFrame as error:
            connection.send(frames.error(code=error.code, message=str(error)))
            self._close(connection, CloseCode.BAD_PROTOCOL, "bad inbox position")
            return
        connection.user = Arriving(ticket, inbox)
        self._judge(connection, connection.user, refreshed=False)

    def on_text(self, connection: Connection, payload: bytes, /) -> None:
        user = connection.user
        if isinstance(user, Session):
            self._dispatch.on_text(user, payload)
        elif not user.hear(payload):
            self._close(connection, CloseCode.BAD_PROTOCOL, "too much before the welcome")

    def on_binary(self, connection: Connection, payload: bytes, /) -> None:
        self._close(connection, CloseCode.UNSUPPORTED_DATA, "binary")

    def on_close(self, connection: Connection, code: int, reason: str, cause: str, /) -> None:
        session, connection.user = connection.user, None  # a session knows its connection: one of them must let go
        if isinstance(session, Session):
            self._leave(session, code, reason)

    # In.

    def _ticket(self, text: str) -> Ticket:
        now = time.time()
        ticket = tickets.verify(text, self._place.keys, node=self._place.id, now=now)
        self._guard.use(ticket, now)
        return ticket

    def _judge(self, connection: Connection, arriving: Arriving, *, refreshed: bool) -> None:
        if self.closing:
            self._close(connection, CloseCode.DRAINING, "draining")
            return
        admission = admit(arriving.ticket, self._history.current, me=self._place.id, refreshed=refreshed)
        self.admitted[admission.verdict] += 1
        if admission.verdict is Verdict.REFRESH:
            gevent.spawn(self._judge_refreshed, connection, arriving)
        elif admission.verdict is Verdict.REDIRECT:
            self._redirect(connection, arriving.ticket, admission.owner)
        elif admission.verdict is Verdict.TRY_AGAIN:
            self._close(connection, CloseCode.STALE_TICKET, "ring behind", spread_ms=TRY_AGAIN_SPREAD_MS)
        else:
            self._admitted(connection, arriving, admission)

    def _judge_refreshed(self, connection: Connection, arriving: Arriving) -> None:
        self._refresh(REFRESH_S)
        if not connection.closed:
            self._judge(connection, arriving, refreshed=True)

    def _admitted(self, connection: Connection, arriving: Arriving, admission: Admission) -> None:
        ticket = arriving.ticket
        kind = Session if connection.deflate is None else PackedSession
        session = kind(connection, self._sessions.user(ticket.uid), self._new_sid(), ticket.roles)
        if self._hooks.connect:
            session.mailbox = Mailbox(session)
            session.mailbox.put(self._ask, connection, arriving, session)
        else:
            self._enter(session, arriving, admission)

    def _new_sid(self) -> str:
        """Unique in the cluster, and no secret: this process's random number and a count."""
        return f"{self._sid_prefix}{next(self._sids):x}"

    def _ask(self, connection: Connection, arriving: Arriving, session: Session) -> None:
        """The connect handlers may block; the ring may have changed meanwhile, so it is asked again."""
        if not self._hooks.accepts(session):
            self._close(connection, CloseCode.FORBIDDEN, "refused by the application")
            return
        admission = admit(arriving.ticket, self._history.current, me=self._place.id, refreshed=True)
        if connection.closed:
            self._hooks.run_all("disconnect", session, self._hooks.disconnect, session, CloseCode.GOING_AWAY, "")
        elif self.closing or admission.verdict in (Verdict.REDIRECT, Verdict.TRY_AGAIN):
            self._redirect(connection, arriving.ticket, admission.owner)
        else:
            session.user = self._sessions.user(session.uid)
            self._enter(session, arriving, admission)

    def _enter(self, session: Session, arriving: Arriving, admission: Admission) -> None:
        user = session.user
        if not user.sessions:
            self._place_user(user, admission)
        others = user.sessions
        session.conn.user = session
        if self._sessions.add(session):
            self._on_first(session.uid)
        if self._single:
            for other in others:
                other.conn.close(CloseCode.REPLACED, "", "replaced")
        after = Unread(session.uid) if arriving.inbox is None else arriving.inbox
        session.conn.hold()  # the welcome follows in a moment: one send for both
        self._reader.catch_up(session, user.inbox, after, self._welcome(session, arriving.inbox))
        for payload in arriving.early:
            self._dispatch.on_text(session, payload)

    def _place_user(self, user: User, admission: Admission) -> None:
        user.unsure = admission.verdict is Verdict.PROVISIONAL
        if admission.verdict is Verdict.AWAY and admission.owner is not None:
            user.away = admission.owner.id
            for told in self.on_away:
                told(user)

    def _welcome(self, session: Session, asked: Position | None) -> Callable[[LogPage | None], bool]:
        def say(page: LogPage | None) -> bool:
            view = self._history.current
            version = view.version if view else _NO_RING
            reason = "softdown" if session.user.away is not None else "resume"  # its owner may still be down then
            resume = self.ticket(session, self._place.id, reason, RESUME_TTL_S, jti=session.sid)
            session.send_frame(encode_text(frames.welcome(
                sid=session.sid, uid=session.uid, node=self._place.id, version=version, resume=resume,
                ping_s=self._place.ping_s, inbox=_inbox(page, asked), rate=self._place.rate,
            )))
            if page is None:
                self._groups.come_back(session)
            else:
                self._groups.bring_back(session, page.groups)
            session.conn.release()
            return True

        return say

    def ticket(self, session: Session, node: str, reason: str, ttl_s: float, *, jti: str | None = None) -> str:
        """A ticket for this session's user, with the session's roles. Args: jti: as in `tickets.issue`."""
        view = self._history.current
        return tickets.issue(
            self._place.keys, uid=session.uid, node=node, version=view.version if view else _NO_RING, now=time.time(),
            ttl_s=ttl_s, roles=session.roles, reason=reason, jti=jti,
        )

    # Out.

    def _redirect(self, connection: Connection, ticket: Ticket, owner: Member | None) -> None:
        """Another node owns the user: say which, for clients that can use it, and close."""
        view = self._history.current
        if view is not None and owner is not None:
            token = tickets.issue(self._place.keys, uid=ticket.uid, node=owner.id, version=view.version,
                                  now=time.time(), roles=ticket.roles, reason="move")
            url = f"{owner.url}?ticket={token}"
            connection.send(frames.move(node=owner.id, url=url, version=view.version, deadline_ms=0))
        self._close(connection, CloseCode.WRONG_NODE, "wrong node")

    def _close(self, connection: Connection, code: CloseCode, cause: str, *, spread_ms: int = 0) -> None:
        view = self._history.current
        connection.close(code, reason_text(spread_ms, view.version.epoch if view else 0), cause)

    def _leave(self, session: Session, code: int, reason: str) -> None:
        session.user.inbox.leave(session)
        self._groups.leave_all(session)
        if self._sessions.remove(session):
            self._on_last(session.uid)
        for gone in self.on_gone:
            gone(session)
        if self._hooks.disconnect:
            gevent.spawn(self._hooks.run_all, "disconnect", session, self._hooks.disconnect, session, code, reason)


def _inbox(page: LogPage | None, asked: Position | None) -> Mapping[str, Any]:
    """The welcome's `inbox`; while Redis is away, what the client said itself."""
    if page is None:
        return {"gen": asked.gen, "seq": asked.seq, "unread": 0, "recovered": True} if asked else {}
    known = {"gen": page.gen, "seq": page.seq, "unread": page.pending, "recovered": page.recovered}
    return known if page.recovered else {**known, "oldest": page.oldest}
