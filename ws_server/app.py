"""What an application on a node gets: `ringway node --app chat:setup` calls `setup(node)` with this.

    def setup(node):
        @node.on_message
        def echo(session, message):
            session.send(message.body, id=message.id)
            return True

        @node.flask.get("/hello")
        def hello(): ...

        @node.sock.route("/raw")
        def raw(ws): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gevent.event import AsyncResult

from ringway.core.errors import Unavailable
from ringway.core.frames import body_json
from ringway.core.uids import validate_group, validate_uid

from .hooks import Hooks
from .sessions import Session

if TYPE_CHECKING:
    from flask import Flask

    from ringway.store.memberships import Memberships

    from .delivery import Delivery
    from .groups import Groups
    from .sessions import Sessions
    from .sock import Sock

F = TypeVar("F", bound=Callable[..., Any])


class Receipt:
    """What became of a message. `get` blocks the greenlet that calls it, so not for inline handlers."""

    __slots__ = ("_result",)

    def __init__(self) -> None:
        self._result: Any = AsyncResult()

    def settle(self, outcome: int | Unavailable | None) -> None:
        """Called by the delivery."""
        if isinstance(outcome, Unavailable):
            self._result.set_exception(outcome)
        else:
            self._result.set(outcome)

    @property
    def done(self) -> bool:
        return bool(self._result.ready())

    def get(self, timeout_s: float = 10.0) -> int | None:
        """Wait until the message is in its log; gives its seq where it had one recipient.

        Raises:
            Unavailable: it is not in the log; sending it again with the same id is safe.
        """
        if not self._result.wait(timeout_s) and not self._result.ready():
            raise Unavailable("Redis", f"no answer in {timeout_s:g} s")
        value: int | None = self._result.get()
        return value


class Node:
    """The application's view of its node."""

    def __init__(
        self, id: str, hooks: Hooks, sessions: Sessions, delivery: Delivery, groups: Groups, memberships: Memberships,
        flask: Flask, sock: Sock,
    ) -> None:
        self.id, self.flask, self.sock = id, flask, sock
        self._hooks, self._sessions, self._delivery, self._groups = hooks, sessions, delivery, groups
        self._memberships = memberships

    # Handlers: decorators.

    def on_connect(self, handler: F) -> F:
        """`handler(session)` before the session is welcomed; False refuses the user with 4003."""
        self._hooks.connect.append(handler)
        return handler

    @overload
    def on_message(self, handler: F) -> F: ...
    @overload
    def on_message(self, *, inline: bool = False) -> Callable[[F], F]: ...
    def on_message(self, handler: F | None = None, *, inline: bool = False) -> F | Callable[[F], F]:
        """`handler(session, message)` for each `send` of a client, before it is delivered.

        True: the application has dealt with it, it goes no further; else it goes on as it came, whatever the handler
        changed in its body. It runs at least once a message: a client whose
        connection broke before the `ok` sends again, with the same `message.id`, and the log, which tells copies
        apart, is only asked afterwards. So let what it does be keyed by (session.uid, message.id):

            INSERT INTO orders (uid, message_id, ...) VALUES (...) ON CONFLICT (uid, message_id) DO NOTHING

        With `inline=True` the handler runs in the event loop, without a greenlet a message; it must not block or switch
        (see hooks.py).
        """

        def register(handler: F) -> F:
            self._hooks.message, self._hooks.inline = handler, inline
            return handler

        return register if handler is None else register(handler)

    def on_text(self, handler: F) -> F:
        """`handler(session, payload: bytes)` for each text message as it came, for applications with a format of
        their own; answer with `session.send_text`. True: it was one of those; else it is read as a frame.

        Runs in the event loop, like an inline `on_message`: it must not block or switch.
        """
        self._hooks.text = handler
        return handler

    def on_disconnect(self, handler: F) -> F:
        """`handler(session, code, reason)` when a session has ended."""
        self._hooks.disconnect.append(handler)
        return handler

    def authorize(self, handler: F) -> F:
        """`handler(session, action, target)`; action is send, publish, join or broadcast (target `*`).

        Anything but True refuses. A join of a group that the session is in already is not asked about.
        """
        self._hooks.authorize = handler
        return handler

    def on_online(self, handler: F) -> F:
        """`handler(uid)` when a user's first session in the cluster opens; not for a second tab, nor after a move."""
        self._hooks.online.append(handler)
        return handler

    def on_offline(self, handler: F) -> F:
        """`handler(uid)` when a user's last session in the cluster has ended."""
        self._hooks.offline.append(handler)
        return handler

    # Messages.

    def send(
        self, to: str | Iterable[str], body: Any, *, id: str | None = None, from_: str = "", volatile: bool = False
    ) -> Receipt:
        """A message to one or several users, wherever they are. Returns at once; see `Receipt`.

        Args:
            body: any JSON value.
            id: the same id from the same `from_` within an hour is the same message; a new one if left out.
            volatile: at most once, in no log.

        Raises:
            InvalidUid: a recipient breaks the rules.
            InvalidInput: the body is no JSON, or nested too deep.
        """
        uids = [validate_uid(uid, "to") for uid in ([to] if isinstance(to, str) else to)]
        receipt = Receipt()
        text = body_json(body)
        self._delivery.send(from_, id or token_urlsafe(12), uids, text, receipt.settle, volatile=volatile)
        return receipt

    def publish(self, group: str, body: Any, *, id: str | None = None, from_: str = "") -> Receipt:
        """A message to a group. Raises InvalidUid, for a bad group name, and InvalidInput, as `send`."""
        receipt = Receipt()
        text = body_json(body)
        self._delivery.publish(from_, id or token_urlsafe(12), validate_group(group), text, receipt.settle)
        return receipt

    def broadcast(self, body: Any, *, id: str | None = None, from_: str = "") -> None:
        """A volatile message to every session of the cluster. Raises InvalidInput, as `send`."""
        text = body_json(body)
        self._delivery.broadcast(from_, id or token_urlsafe(12), text)

    # Sessions and groups.

    def sessions(self, uid: str) -> tuple[Session, ...]:
        """The user's sessions on this node."""
        user = self._sessions.get(uid)
        return user.sessions if user else ()

    @property
    def session_count(self) -> int:
        return self._sessions.count

    def join(self, session: Session, group: str) -> None:
        """Have a session take part in a group, from now on, without asking `authorize`.

        In a connect handler: from the welcome on, if the user is let in. Raises InvalidUid for a bad group name,
        TooManyGroups.
        """
        self._groups.take_in(session, validate_group(group))

    def leave(self, session: Session, group: str) -> None:
        """End that, and tell the client, which does not join again by itself. A group it is not in is no error."""
        self._groups.put_out(session, group)

    def add_members(self, group: str, uids: str | Iterable[str]) -> None:
        """Users belong to a group for good: their sessions join now, and each time they connect, from the read cursor.

        `authorize` is not asked. Blocks the greenlet that calls it, so not for inline handlers; may be repeated.

        Raises:
            InvalidUid: a name breaks the rules.
            Unavailable: not everybody may be in it yet.
        """
        self._memberships.add(group, uids)

    def remove_members(self, group: str, uids: str | Iterable[str]) -> None:
        """End that, in sessions that are open too; the SDKs forget the group. Blocks and raises as `add_members`.

        A client may still send a `join` like anybody else, as the SDKs do if they were away when the user was removed:
        `authorize` decides then, and without one everybody may.
        """
        self._memberships.remove(group, uids)
