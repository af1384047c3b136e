"""The application's handlers, and how they run.

A handler runs in a greenlet and may block cooperatively; a session's messages go through one greenlet in their order,
and while too many wait its socket is not read. A handler declared `inline` runs in the event loop itself, between two
sockets, without a greenlet a message: it must not block or switch (no I/O, no sleep, no lock), and should take
microseconds, because every session of the node waits for it.

An exception is logged with its session, counted, and stops nothing.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeVar

import gevent

from ringway.core.frames import Send

from .sessions import Session

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

WAITING = 64  # messages of a session that wait for its handler; beyond that its socket is not read


class Hooks:
    """What the application registered. Several handlers of a kind run in their order.

    connect(session): before the session gets anything; False refuses the user (4003).
    message(session, message): each `send`; True means that the application has dealt with it, so it goes no further.
        At least once: a client that had no `ok` sends again, and message.id is the same then.
    text(session, payload): every message before it is parsed, in the event loop; True means that it was the
        application's own and no frame of the protocol.
    disconnect(session, code, reason).
    authorize(session, action, target): action is send, publish, join or broadcast; target a uid or group, `*` of a
        broadcast. False refuses.
    online(uid), offline(uid): the user's first session in the cluster, and the end of the last.
    """

    def __init__(self) -> None:
        self.connect: list[Callable[[Session], object]] = []
        self.message: Callable[[Session, Send], object] | None = None
        self.inline = False
        self.text: Callable[[Session, bytes], object] | None = None
        self.disconnect: list[Callable[[Session, int, str], object]] = []
        self.authorize: Callable[[Session, str, str], object] | None = None
        self.online: list[Callable[[str], object]] = []
        self.offline: list[Callable[[str], object]] = []
        self.errors: Counter[str] = Counter()

    def run(self, kind: str, about: object, handler: Callable[..., object], *args: object) -> tuple[bool, object]:
        """Call a handler: whether it returned, and what."""
        try:
            return True, handler(*args)
        except Exception:
            self.errors[kind] += 1
            log.exception("on_%s handler failed for %r", kind, about)
            return False, None

    def run_all(self, kind: str, about: object, handlers: list[Callable[..., object]], *args: object) -> None:
        for handler in handlers:
            self.run(kind, about, handler, *args)

    def accepts(self, session: Session) -> bool:
        """Ask the connect handlers, which may block. One that fails refuses: it could not say yes."""
        for handler in self.connect:
            returned, answer = self.run("connect", session, handler, session)
            if not returned or answer is False:
                return False
        return True

    def allows(self, session: Session, action: str, target: str) -> bool:
        """Ask the authorize handler, which may block; without one everything is allowed."""
        if self.authorize is None:
            return True
        return self.run("authorize", session, self.authorize, session, action, target)[1] is True


class Mailbox:
    """A session's work that may block: one greenlet while there is some, none otherwise."""

    __slots__ = ("_items", "_running", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._items: deque[tuple[Callable[..., object], Any]] = deque()
        self._running = False

    def put(self, work: Callable[..., object], *args: Any) -> None:
        """Do work after what is there already. Never blocks."""
        self._items.append((work, args))
        if len(self._items) == WAITING:
            self._session.conn.pause()
        if not self._running:
            self._running = True
            gevent.spawn(self._run)

    def _run(self) -> None:
        while self._items:
            work, args = self._items.popleft()
            try:
                work(*args)
            except Exception:
                log.exception("work for %r failed", self._session)
            if len(self._items) == WAITING // 2:
                self._session.conn.resume()
        self._running = False
        self._session.mailbox = None  # the next one has a new one; with this in it, an ended session would stay
