"""What the blocking and the asyncio client have in common: options, machine, conversation, and who is told what."""

from __future__ import annotations

import logging
import random
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from ringway.core.backoff import full_jitter
from ringway.core.errors import (
    ClientClosed,
    ClientError,
    ClosedByServer,
    ConnectFailed,
    FrameRefused,
    InvalidInput,
    RingwayError,
    RouteRefused,
    TooManyHops,
)
from ringway.core.frames import DEDUP_S, Position
from ringway.core.uids import validate_group, validate_uid

from .conversation import MOVING, Conversation, Happening, Held, Message
from .events import BROKEN, Action, Adopt, Close, Connect, Drop, Event, LookupFailed, Lost, Move, Resolve, Stop, Wait
from .liveness import DEFAULT_PING_S, Liveness
from .machine import MAX_HOPS, Machine, State, step
from .pace import Pace
from .positions import Gap, PositionStore
from .receipts import _Answer
from .resolver import validate_lookups

log = logging.getLogger("ringway.client_sdk")
ACK_EVERY_S = 0.5  # finished messages are acknowledged together, one place a channel
CLOSE_TIMEOUT_S = 2.0  # for the node to answer a close
OUTBOX_LIMIT = 1000
INBOX_LIMIT = 10_000
NONSENSE = (ValueError, KeyError, TypeError, AttributeError)  # what reading a frame raises that is none

R = TypeVar("R", bound=_Answer)


def check(frame: Mapping[str, Any], **fields: type) -> None:
    """Raises TypeError, KeyError: a field is missing or is something else."""
    for name, kind in fields.items():
        if type(frame[name]) is not kind:
            raise TypeError(f"{name} of {frame['t']} is no {kind.__name__}")


class Terms(NamedTuple):
    """What a node's welcome says of the connection: the inbox's place, when silence means death, how fast to write, and
    for how long its log knows a message's id (seconds)."""

    inbox: Mapping[str, Any]
    liveness: Liveness
    pace: Pace
    dedup_s: float


def terms(welcome: Mapping[str, Any], now: float) -> Terms:
    """Args: now: seconds of the clock that the connection goes by. Raises one of NONSENSE."""
    check(welcome, node=str, gen=int, epoch=int)
    return Terms(
        welcome.get("inbox") or {}, Liveness(float(welcome.get("ping_s") or DEFAULT_PING_S), now),
        Pace(welcome.get("rate")), float(welcome.get("dedup_s") or DEDUP_S),
    )


class Resync(Exception):
    """Ends the reading of a connection that left out a message; its text names the channel."""


class BaseClient(Generic[R]):
    """Runs the machine. A front end carries out the actions and decides which thread or task calls what."""

    _receipt_type: type[R]

    def __init__(
        self,
        lookup: str | Iterable[str],
        uid: str,
        *,
        on_message: Callable[[Message], Any] | None = None,
        on_state: Callable[[State, ClientError | None], Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        on_error: Callable[[ClientError], Any] | None = None,
        groups: Iterable[str] = (),
        auto_ack: bool = True,
        positions: PositionStore | None = None,
        outbox_limit: int = OUTBOX_LIMIT,
        inbox_limit: int = INBOX_LIMIT,
        open_timeout_s: float = 5.0,
        route_timeout_s: float = 5.0,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        """Options, the same for both clients.

        Args:
            lookup: URL of a lookup service, or several of them.
            uid: who this is.
            on_message: called with each Message, in order by channel. Without it, iterate.
            on_state: called with (State, the error that led there or None).
            on_gap: called with each Gap, before the messages that follow it.
            on_error: called with errors that belong to no receipt, such as a refused re-join, and with Unconfirmed
                where nobody waits on the receipt.
            groups: to join from the start.
            auto_ack: acknowledge a message when on_message has returned, or the next one is asked for.
            positions: keeps positions across restarts of the process; a group that has one is joined until it is left.
            outbox_limit: messages kept without `ok`; one more raises SendBufferFull.
            inbox_limit: messages read ahead of the application; beyond, reading pauses (and the node may close 4101).
            open_timeout_s: seconds from opening a WebSocket to the node's welcome.
            route_timeout_s: seconds for one lookup to answer.
            ssl: for wss:// and https://; default: the system's certificates.

        Raises InvalidInput: the uid, a group or a lookup's URL is none.
        """
        self.uid = validate_uid(uid)
        self.lookups = validate_lookups(lookup)
        self._on_message, self._on_state, self._on_gap, self._on_error = on_message, on_state, on_gap, on_error
        self._auto_ack, self._store, self._inbox_limit = auto_ack, positions, inbox_limit
        self._open_timeout_s, self._route_timeout_s, self._ssl = open_timeout_s, route_timeout_s, ssl
        self._machine = Machine(lookups=len(self.lookups))
        saved = positions.load() if positions is not None else None
        self._talk: Conversation[R] = Conversation(uid, outbox_limit=outbox_limit, saved=saved)
        if isinstance(groups, str):  # each of its letters would be a group
            raise InvalidInput("groups", groups, "must be several names", f"give [{groups!r}]")
        self._talk.groups = {validate_group(group): [] for group in groups}
        self._guard: AbstractContextManager[Any] = nullcontext()  # threads put a lock here
        self._error: ClientError | None = None
        self._cause: ClientError | None = None
        self._retries = 0

    @property
    def state(self) -> State:
        """What the client is doing now."""
        return self._machine.state

    @property
    def node(self) -> str:
        """The id of the node the session is (or last was) on; empty before the first welcome."""
        return self._machine.live_node

    @property
    def error(self) -> ClientError | None:
        """Why the client stopped for good; None while it has not, and after close()."""
        return self._error

    @property
    def last_problem(self) -> ClientError | None:
        """The last thing that went wrong, even if the client has got over it."""
        return self._cause

    # What the application says.

    def send(self, to: str | Sequence[str], body: Any, volatile: bool = False, id: str | None = None) -> R:
        """A message to a user or several; `body` is any JSON value.

        It is kept until the node's ok, and sent again with the same id on each new connection until then; after most of
        an hour without ok that could double it, and it fails with Unconfirmed. A volatile one arrives at most once, or
        never.

        Raises:
            SendBufferFull, InvalidInput, ClientClosed (or why it stopped), Unavailable (volatile and not connected)
        """
        with self._guard:
            receipt = self._receipt(self._talk.new_id() if id is None else id)
            self._write(self._talk.send(to, body, receipt, id=receipt.id, volatile=volatile))
        self._flush_writes()
        return receipt

    def publish(self, group: str, body: Any, id: str | None = None) -> R:
        """A message to a group, kept like that of `send`. Raises SendBufferFull, InvalidInput, ClientClosed."""
        with self._guard:
            receipt = self._receipt(self._talk.new_id() if id is None else id)
            self._write(self._talk.publish(group, body, receipt, id=receipt.id))
        self._flush_writes()
        return receipt

    def broadcast(self, body: Any, id: str | None = None) -> R:
        """A volatile message to every session of the cluster, for users with a role that may; their `ch` is `*`.

        The receipt fails with FrameRefused for anybody else.

        Raises:
            InvalidInput, ClientClosed (or why it stopped), Unavailable (not connected)
        """
        with self._guard:
            receipt = self._receipt(self._talk.new_id() if id is None else id)
            self._write(self._talk.broadcast(body, receipt, id=receipt.id))
        self._flush_writes()
        return receipt

    def join(self, group: str, from_: Position | None = None) -> R:
        """Take part in a group, now and after each reconnect. The receipt's result is a Joined.

        Args:
            from_: everything after this place comes, also what the client has had; without it, what it has not had yet.

        Raises InvalidInput, ClientClosed.
        """
        with self._guard:
            receipt = self._receipt(group)
            self._write(self._talk.join(group, receipt, from_))
        self._flush_writes()
        return receipt

    def leave(self, group: str) -> None:
        """Take part in a group no more."""
        with self._guard:
            self._write(self._talk.leave(group))
        self._flush_writes()
        if self.state is not State.IDLE:  # a kept place would bring the group back
            self._ack_soon()

    def ack(self, message: Message) -> None:
        """The application is done with the message and with all before it in its channel."""
        if message.gen is not None and message.seq is not None:
            with self._guard:
                self._talk.positions.finish(message.ch, message.gen, message.seq)
            self._ack_soon()

    def _receipt(self, id: str) -> R:
        if self.state is State.CLOSED:
            raise self._ended()
        return self._receipt_type(id)

    def _due_acks(self) -> None:
        """Write what is to be acknowledged, and keep the positions."""
        with self._guard:
            self._write(self._talk.acks())
            saved = self._talk.positions.saved()
        self._flush_writes()
        if self._store is not None:
            self._tell(self._store.save, saved)

    def _write(self, texts: list[str]) -> None:
        """Queue frames on the connection in use; called inside the guard, so the order is that of the outbox."""
        outgoing = self._outgoing()
        if outgoing is not None:
            outgoing.extend(texts)

    def _hold(self) -> None:
        """Write no message more until `_again`: one that still waits would overtake the one that was refused."""
        outgoing = self._outgoing()
        if outgoing:
            held = set(self._talk.outbox.texts())
            rest = [text for text in outgoing if text not in held]
            outgoing.clear()
            outgoing.extend(rest)

    def _again(self) -> None:
        with self._guard:
            texts, errors = self._talk.again(time.time())
            self._write(texts)
        self._flush_writes()
        for error in errors:
            self._report(error)

    def _wrote(self, text: str) -> None:
        """A connection writes this frame now; called inside the guard."""
        self._talk.outbox.wrote(text, time.time())

    def _retry_delay_s(self) -> float:
        """Seconds before everything without an ok goes out again on the same connection."""
        self._retries += 1
        return full_jitter(self._retries, random.random, base_s=0.2, cap_s=5.0)

    def _unflushed(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{len(self._talk.outbox)} messages have no ok after {timeout} s")

    # What the node says.

    def _hear(self, stamp: int, text: str | bytes) -> Sequence[Happening]:
        try:
            frame = orjson.loads(text)
            if frame["t"] == "move":
                check(frame, url=str, gen=int, epoch=int)
                ms, node = int(frame.get("deadline_ms") or 0), frame.get("node") or ""
                self._post(Move(stamp, frame["url"], frame["gen"], frame["epoch"], ms, node))
                return ()
            with self._guard:
                happened = self._talk.hear(frame)
                if any(isinstance(each, Held) for each in happened):
                    self._hold()
            if self._talk.positions.due:
                self._ack_soon()
            return happened
        except NONSENSE as error:
            return (FrameRefused("bad_frame", f"the node sent {text[:80]!r}: {error!r}"),)

    def _report(self, happening: Happening) -> None:
        """Tell the application of anything but messages."""
        if isinstance(happening, Gap):
            log.warning("%s: %s has a gap: had %s, goes on at %s:%d", self.uid, happening.ch, happening.had,
                        happening.gen, happening.oldest)
            self._tell(self._on_gap, happening)
        elif isinstance(happening, ClientError):
            log.warning("%s: %s", self.uid, happening)
            self._tell(self._on_error, happening)

    # The machine.

    def _feed(self, event: Event) -> None:
        """Run the machine on one event and carry out what it says."""
        before, asked = self._machine.state, self.lookups[self._machine.lookup]
        self._machine, actions = step(self._machine, event, time.monotonic(), random.random)
        cause = self._explain(event, asked) if actions or self._machine.state is not before else None
        self._cause = cause or self._cause
        for action in actions:
            self._do(action)
        if self._machine.state is not before:
            log.debug("%s: %s -> %s%s", self.uid, before, self.state, f" ({cause})" if cause else "")
            self._changed(self._machine.state, cause)

    def _do(self, action: Action) -> None:
        match action:
            case Resolve():
                self._say_moving()
                self._resolve(action)
            case Connect():
                self._say_moving()
                self._connect(action)
            case Wait():
                self._wait(action)
            case Adopt():
                self._adopt(action.stamp)
                if self._store is not None:
                    self._ack_soon()
            case Drop():
                self._drop(action.stamp)
            case Stop(code, reason, message):
                self._error = ClosedByServer(code, reason) if code >= 1000 else RouteRefused(code, reason, message)

    def _say_moving(self) -> None:
        """Have the node wait, if there is one that we are leaving."""
        if self._machine.live:
            with self._guard:
                self._write([MOVING])
            self._flush_writes()

    def _explain(self, event: Event, asked: str) -> ClientError | None:
        """The error an event stands for, for people who watch the states. Args: asked: the lookup, if it answered."""
        if self._machine.hops > MAX_HOPS and self._machine.state is State.WAITING:
            return TooManyHops(self._machine.hops)
        if isinstance(event, Lost) and event.code == BROKEN:
            return ConnectFailed(self._machine.node or "the node", event.reason or "the connection broke")
        if isinstance(event, Lost):
            return ClosedByServer(event.code, event.reason)
        if isinstance(event, LookupFailed) and not event.status:
            return ConnectFailed(asked, event.message)
        if isinstance(event, LookupFailed):
            return RouteRefused(event.status, event.code, event.message)
        return ClientClosed() if isinstance(event, Close) else None

    def _too_late(self, timeout: float | None) -> ConnectFailed:
        """No connection came about in time: what went wrong last, with each URL once."""
        lookups, cause = ", ".join(self.lookups), self._cause
        if isinstance(cause, ConnectFailed):
            return ConnectFailed(lookups, cause.why if cause.url == lookups else f"{cause.url}: {cause.why}")
        return ConnectFailed(lookups, str(cause or f"nothing in {timeout} s"))

    def _ended(self) -> RingwayError:
        """What whoever still waits is told."""
        return self._error or ClientClosed()

    def _tell(self, callback: Callable[..., Any] | None, *values: Any) -> None:
        """Call the application. What it raises is logged and is not the connection's affair."""
        if callback is None:
            return
        try:
            callback(*values)
        except Exception:
            log.exception("%s: %r failed", self.uid, callback)

    # The front end's part.

    def _resolve(self, action: Resolve) -> None:
        raise NotImplementedError

    def _connect(self, action: Connect) -> None:
        raise NotImplementedError

    def _wait(self, action: Wait) -> None:
        raise NotImplementedError

    def _adopt(self, stamp: int) -> None:
        raise NotImplementedError

    def _drop(self, stamp: int) -> None:
        raise NotImplementedError

    def _changed(self, state: State, cause: ClientError | None) -> None:
        raise NotImplementedError

    def _post(self, event: Event) -> None:
        """Bring an event to whoever runs the machine."""
        raise NotImplementedError

    def _outgoing(self) -> deque[str] | None:
        """What waits to be written on the connection in use; None while there is none."""
        raise NotImplementedError

    def _flush_writes(self) -> None:
        """Write what is queued; called outside the guard."""
        raise NotImplementedError

    def _ack_soon(self) -> None:
        """Call `_due_acks` within ACK_EVERY_S."""
        raise NotImplementedError
