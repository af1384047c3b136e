"""What clients say: each frame of `ringway.v1` to what it does. Runs in the event loop and never blocks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from ringway.core import frames
from ringway.core.close_codes import CloseCode, reason_text
from ringway.core.errors import InvalidFrame, Unavailable
from ringway.core.frames import Ack, Broadcast, Join, Leave, Moving, Ping, Position, Publish, Send, parse_client_frame
from ringway.core.pacing import TokenBucket
from ringway.store.keys import inbox
from ringway.store.notices import EVERYBODY

from .batcher import Batcher
from .delivery import Delivery
from .groups import MAX_GROUPS, Groups, TooManyGroups
from .hooks import Hooks, Mailbox
from .sessions import Session
from .wire import encode_text

log = logging.getLogger(__name__)

BAD_FRAMES = 20  # of one session; one more ends it
RATE_WINDOW_S = 5.0  # so much of the allowed rate may come at once
_PONG = encode_text(frames.PONG)


class Dispatch:
    """Carries out client frames. `rate` is messages a second for each session; None: as they come.

    Without `publish_roles` the members of a group may publish to it; without `broadcast_roles` nobody may broadcast.
    """

    def __init__(
        self, delivery: Delivery, groups: Groups, batcher: Batcher, hooks: Hooks, *,
        rate: float | None, publish_roles: frozenset[str], broadcast_roles: frozenset[str],
        clock: Callable[[], float],
    ) -> None:
        self._delivery, self._groups, self._batcher, self._hooks = delivery, groups, batcher, hooks
        self._rate, self._clock = rate, clock
        self._publish_roles, self._broadcast_roles = publish_roles, broadcast_roles
        self.refused: Counter[str] = Counter()  # by error code
        self._carry_out: dict[type, Callable[[Session, Any], None]] = {
            Send: self._send, Publish: self._publish, Broadcast: self._broadcast, Join: self._join,
            Leave: self._leave, Ack: self._ack, Ping: self._ping, Moving: self._moving,
        }

    def on_text(self, session: Session, payload: bytes) -> None:
        """One message of an open session."""
        if self._rate is not None and not self._in_rate(session, self._rate):
            session.conn.close(CloseCode.RATE_LIMITED, reason_text(5000), "rate limit")
            return
        text = self._hooks.text
        if text is not None and self._hooks.run("text", session, text, session, payload)[1] is True:
            return
        try:
            frame = parse_client_frame(payload)
        except InvalidFrame as error:
            self._bad(session, error)
            return
        self._carry_out[type(frame)](session, frame)

    def _in_rate(self, session: Session, rate: float) -> bool:
        if session.bucket is None:
            session.bucket = TokenBucket(rate, max(1.0, rate * RATE_WINDOW_S))
        return bool(session.bucket.take(self._clock()) == 0.0)

    def _bad(self, session: Session, error: InvalidFrame) -> None:
        self._refuse(session, error.code, str(error), id=error.id, group=error.group)
        session.bad_frames += 1
        if session.bad_frames > BAD_FRAMES:
            session.conn.close(CloseCode.BAD_PROTOCOL, "", "bad frames")

    def _refuse(
        self, session: Session, code: str, message: str, *, id: str | None = None, group: str | None = None
    ) -> None:
        self.refused[code] += 1
        session.send_frame(encode_text(frames.error(code=code, message=message, id=id, group=group)))

    # Each kind of frame.

    def _send(self, session: Session, send: Send) -> None:
        hooks = self._hooks
        if hooks.inline and hooks.message is not None and hooks.authorize is None:
            self._handled(session, send)
        elif hooks.message is not None or hooks.authorize is not None:
            self._later(session, self._authorized_send, session, send)
        else:
            self._deliver(session, send)

    def _authorized_send(self, session: Session, send: Send) -> None:
        for uid in send.to:
            if not self._hooks.allows(session, "send", uid):
                self._refuse(session, "forbidden", f"you may not send to {uid!r}", id=send.id)
                return
        if self._hooks.message is None:
            self._deliver(session, send)
        else:
            self._handled(session, send)

    def _handled(self, session: Session, send: Send) -> None:
        assert self._hooks.message is not None
        returned, answer = self._hooks.run("message", session, self._hooks.message, session, send)
        if not returned:
            self._refuse(session, "failed", "the application's handler failed", id=send.id)
        elif answer is True:
            session.send_frame(encode_text(frames.ok(id=send.id)))
        else:
            self._deliver(session, send)

    def _deliver(self, session: Session, send: Send) -> None:
        settle = self._settle(session, send.id)
        self._delivery.send(session.uid, send.id, send.to, send.json, settle, volatile=send.volatile, sid=session.sid)

    def _settle(self, session: Session, id: str) -> Callable[[int | Unavailable | None], None]:
        def settle(outcome: int | Unavailable | None) -> None:
            if isinstance(outcome, Unavailable):
                self._refuse(session, "unavailable", str(outcome), id=id)
            else:
                session.send_frame(encode_text(frames.ok(id=id, seq=outcome)))

        return settle

    def _publish(self, session: Session, publish: Publish) -> None:
        if self._hooks.authorize is not None:  # after the joins that are being authorized
            self._later(session, self._judge_publish, session, publish)
        else:
            self._judge_publish(session, publish)

    def _judge_publish(self, session: Session, publish: Publish) -> None:
        if self._publish_roles:
            allowed = not self._publish_roles.isdisjoint(session.roles)
            rule = f"needs a role: {_either(self._publish_roles)}"
        else:
            allowed, rule = publish.group in (session.groups or ()), "is for its members; join first"
        if not allowed:
            self._refuse(session, "forbidden", f"publishing to {publish.group!r} {rule}", id=publish.id)
        elif not self._hooks.allows(session, "publish", publish.group):
            self._refuse(session, "forbidden", f"you may not publish to {publish.group!r}", id=publish.id)
        else:
            self._groups.after_joining(session, publish.group, lambda: self._append(session, publish))

    def _append(self, session: Session, publish: Publish) -> None:
        settle = self._settle(session, publish.id)
        self._delivery.publish(session.uid, publish.id, publish.group, publish.json, settle, sid=session.sid)

    def _broadcast(self, session: Session, broadcast: Broadcast) -> None:
        if self._broadcast_roles.isdisjoint(session.roles):
            rule = f"needs a role: {_either(self._broadcast_roles)}" if self._broadcast_roles else "is for back ends"
            self._refuse(session, "forbidden", f"broadcasting {rule}", id=broadcast.id)
        elif self._hooks.authorize is not None:
            self._later(session, self._authorized_broadcast, session, broadcast)
        else:
            self._to_everybody(session, broadcast)

    def _authorized_broadcast(self, session: Session, broadcast: Broadcast) -> None:
        if self._hooks.allows(session, "broadcast", EVERYBODY):
            self._to_everybody(session, broadcast)
        else:
            self._refuse(session, "forbidden", "you may not broadcast", id=broadcast.id)

    def _to_everybody(self, session: Session, broadcast: Broadcast) -> None:
        self._settle(session, broadcast.id)(
            self._delivery.broadcast(session.uid, broadcast.id, broadcast.json)
        )

    def _join(self, session: Session, join: Join) -> None:
        if self._hooks.authorize is not None:
            self._later(session, self._authorized_join, session, join)
        else:
            self._join_now(session, join)

    def _authorized_join(self, session: Session, join: Join) -> None:
        belongs = join.group in (session.groups or ())  # it was asked, or the application has made the user a member
        if not belongs and not self._hooks.allows(session, "join", join.group):
            self._refuse(session, "forbidden", f"you may not join {join.group!r}", group=join.group)
        elif not session.conn.closed:
            self._join_now(session, join)

    def _join_now(self, session: Session, join: Join) -> None:
        try:
            self._groups.enter(session, join.group, join.from_)
        except TooManyGroups:
            message = f"a session may be in {MAX_GROUPS} groups; leave some first"
            self._refuse(session, "too_many_groups", message, group=join.group)

    def _leave(self, session: Session, leave: Leave) -> None:
        if session.mailbox is not None:  # after a join that is being authorized
            self._later(session, self._leave_now, session, leave)
        else:
            self._leave_now(session, leave)

    def _leave_now(self, session: Session, leave: Leave) -> None:
        self._groups.leave(session, leave.group)
        session.send_frame(encode_text(frames.left(group=leave.group)))

    def _ack(self, session: Session, ack: Ack) -> None:
        if session.mailbox is not None:  # after a join that is being authorized
            self._later(session, self._ack_now, session, ack)
        else:
            self._ack_now(session, ack)

    def _ack_now(self, session: Session, ack: Ack) -> None:
        own = ack.ch == inbox(session.uid)
        channel = session.user.inbox if own else (session.groups or {}).get(ack.ch[2:])
        if channel is None or channel.ch != ack.ch:
            self._refuse(session, "forbidden", f"{ack.ch!r} is neither your inbox nor a group that you are in")
        elif channel.has_given(session, Position(ack.gen, ack.seq)):
            self._batcher.ack(session.uid, ack.ch, Position(ack.gen, ack.seq))

    def _ping(self, session: Session, _ping: Ping) -> None:
        session.send_frame(_PONG)

    def _moving(self, session: Session, _moving: Moving) -> None:
        session.going = True

    def _later(self, session: Session, work: Callable[..., object], *args: Any) -> None:
        """In the session's own greenlet, in order: it may block."""
        if session.mailbox is None:
            session.mailbox = Mailbox(session)
        session.mailbox.put(work, *args)


def _either(roles: frozenset[str]) -> str:
    return " or ".join(sorted(roles))
