"""What a client says and hears, apart from any connection. Pure: frames in, frames and happenings out.

It outlives connections: what had no ok is said again on the next one, groups are joined again from where they were, and
what was heard before is not heard twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from secrets import token_hex
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import orjson

from ringway.core.close_codes import CloseCode
from ringway.core.errors import ClientError, FrameRefused, InvalidInput, RingwayError, Unavailable, Unconfirmed
from ringway.core.frames import DEDUP_S, FRAME_LIMIT, Position, body_json, message_id, recipients
from ringway.core.uids import validate_group

from .outbox import Entry, Outbox
from .positions import Gap, Positions, Verdict

RETRYABLE = "unavailable"  # the error code that the same frame may not meet later
SURE = 0.75  # of the time for which the log knows an id: clocks are set, and a full outbox takes its time to write
PING = '{"t":"ping"}'
MOVING = '{"t":"moving"}'


class Receipt(Protocol):
    """What a sender holds. `settle` or `fail` is called, once."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the answer now."""

    def settle(self, result: Any) -> None: ...
    def fail(self, error: RingwayError) -> None: ...


R = TypeVar("R", bound=Receipt)


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `ch` is `u:<uid>`, `g:<group>`, or `*` for a broadcast; `ts` unix milliseconds.

    A volatile one, as each broadcast is, has no gen and no seq.
    """

    ch: str
    id: str
    from_: str
    body: Any
    ts: int
    gen: str | None = None
    seq: int | None = None

    @property
    def group(self) -> str | None:
        """The group's name, or None for a message to the user or to all."""
        return self.ch[2:] if self.ch.startswith("g:") else None


class Joined(NamedTuple):
    """The answer to `join`: where the group's log is, and whether everything since the position asked for follows."""

    group: str
    gen: str
    seq: int
    unread: int
    recovered: bool
    oldest: int | None


class Held(NamedTuple):
    """The node cannot take messages now; say everything again after a while."""

    error: FrameRefused


class Behind(NamedTuple):
    """A message is missing in a channel: connect anew from the positions."""

    ch: str


Happening = Message | Gap | Held | Behind | ClientError


class Conversation(Generic[R]):
    """One client's side of the protocol. Not thread-safe: the caller serialises."""

    def __init__(self, uid: str, *, outbox_limit: int, saved: Mapping[str, str] | None = None) -> None:
        self.inbox = f"u:{uid}"
        self.positions = Positions(saved)
        self.outbox: Outbox[R] = Outbox(outbox_limit)
        self.groups: dict[str, list[R]] = {}  # with the receipts of joins that are not answered yet
        self.open = False
        self.held = False
        self._left: set[str] = set()
        self._dedup_s: float = DEDUP_S
        self._refused: set[str] = set()  # groups that are not joined again by themselves
        self._prefix, self._count = token_hex(8), 0

    # Said by the application. Each returns the frames to write now, which is none while there is no connection.

    def send(self, to: str | Sequence[str], body: Any, receipt: R, *, id: str, volatile: bool = False) -> list[str]:
        """A message to users. Raises SendBufferFull, InvalidInput, or Unavailable if volatile and not connected."""
        several = isinstance(to, Sequence) and not isinstance(to, str)
        uids = recipients(to if several else [to])
        frame = {"t": "send", "id": id, "to": uids if several else uids[0]}
        if volatile:
            return self._say_now({**frame, "volatile": True}, body, receipt)
        return self._say(frame, body, receipt)

    def publish(self, group: str, body: Any, receipt: R, *, id: str) -> list[str]:
        """A message to a group. Raises SendBufferFull, InvalidInput."""
        return self._say({"t": "publish", "id": id, "group": validate_group(group)}, body, receipt)

    def broadcast(self, body: Any, receipt: R, *, id: str) -> list[str]:
        """A volatile message to everybody. Raises InvalidInput, or Unavailable if not connected."""
        return self._say_now({"t": "broadcast", "id": id}, body, receipt)

    def new_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def _say_now(self, frame: dict[str, Any], body: Any, receipt: R) -> list[str]:
        if not self.open:
            raise Unavailable("the node", "not connected, and a volatile message does not wait")
        return self._say(frame, body, receipt, volatile=True)

    def _say(self, frame: dict[str, Any], body: Any, receipt: R, *, volatile: bool = False) -> list[str]:
        """What a node would refuse is refused here: for JSON that it cannot read it could not even name the message."""
        message_id(frame["id"])
        text = orjson.dumps({**frame, "body": orjson.Fragment(body_json(body))})
        if len(text) > FRAME_LIMIT:
            rule = f"must fit a frame of {FRAME_LIMIT} bytes"
            raise InvalidInput("body", f"{len(text)} bytes", rule, "send a link to it instead")
        self.outbox.add(Entry(frame["id"], text.decode(), receipt, volatile))
        return [text.decode()] if self.open and (volatile or not self.held) else []

    def join(self, group: str, receipt: R, from_: Position | None = None) -> list[str]:
        """Take part in a group, from a position, which is kept, or from where the client is. Raises InvalidInput."""
        validate_group(group)
        if from_ is not None:
            self.positions.start(f"g:{group}", Position.parse(str(from_), "from"))
        waiting = self.groups.setdefault(group, [])
        waiting.append(receipt)
        self._left.discard(group)
        self._refused.discard(group)
        asked = len(waiting) > 1 and from_ is None
        return [self._join_text(group)] if self.open and not asked else []

    def _join_text(self, group: str) -> str:
        at = self.positions.ask(f"g:{group}")
        frame: dict[str, Any] = {"t": "join", "group": group}
        return orjson.dumps({**frame, "from": {"gen": at.gen, "seq": at.seq}} if at else frame).decode()

    def leave(self, group: str) -> list[str]:
        """Take part no more; what still comes from the group is dropped."""
        for receipt in self.groups.pop(group, []):
            receipt.fail(FrameRefused("left", f"{group} was left before the node had answered"))
        self.positions.forget(f"g:{group}")
        self._left.add(group)
        return [orjson.dumps({"t": "leave", "group": group}).decode()] if self.open else []

    def acks(self) -> list[str]:
        """The acknowledgements due: one a channel with something newly finished."""
        if not self.open:
            return []
        return [orjson.dumps({"t": "ack", "ch": ch, "gen": at.gen, "seq": at.seq}).decode()
                for ch, at in self.positions.acks()]

    # Connections.

    def url(self, url: str) -> str:
        """The node's URL with the place in the inbox to go on from."""
        at = self.positions.at(self.inbox)
        return url if at is None else f"{url}{'&' if '?' in url else '?'}inbox={at}"

    def opened(
        self, inbox: Mapping[str, Any], *, now: float, dedup_s: float = DEDUP_S
    ) -> tuple[list[str], list[Happening]]:
        """A node said welcome: the frames to write first, and what to tell the application.

        Args:
            now: unix seconds.
            dedup_s: for how long the log knows a message's id.
        """
        self.open, self.held, self._dedup_s = True, False, dedup_s
        gap = self.positions.answered(self.inbox, inbox) if inbox else None
        self.positions.ack_again()
        leaves = [orjson.dumps({"t": "leave", "group": group}).decode() for group in sorted(self._left)]
        joins = (self._join_text(group) for group in self._wanted())
        told: list[Happening] = [*([] if gap is None else [gap]), *self._too_old(now)]
        return [*leaves, *joins, *self.outbox.texts(), *self.acks()], told

    def _too_old(self, now: float) -> list[ClientError]:
        """Give up what might be in the log twice if it were written again. Returns the errors that nobody waits for."""
        errors: list[ClientError] = []
        for entry in self.outbox.drop_written_before(now - SURE * self._dedup_s):
            error = Unconfirmed(entry.id, now - (now if entry.written is None else entry.written))
            if not entry.receipt.awaited:
                errors.append(error)
            entry.receipt.fail(error)
        return errors

    def _wanted(self) -> list[str]:
        """The groups to be in: those that were joined, and those in which the client has a place."""
        placed = {ch[2:]: None for ch in self.positions.channels() if ch.startswith("g:")}
        return [group for group in {**dict.fromkeys(self.groups), **placed} if group not in self._refused]

    def lost(self, code: int) -> None:
        """The connection in use is gone. Volatile messages without ok end here, and one too big for the node too."""
        self.open = False
        for entry in self.outbox.drop_volatile():
            entry.receipt.fail(Unavailable("the node", "the connection broke before the ok"))
        if code == CloseCode.TOO_BIG and (entries := self.outbox.entries()):
            largest = max(entries, key=lambda entry: len(entry.text))
            self._refuse(largest.id, FrameRefused("too_big", "the node closed the connection over it", largest.id))

    def again(self, now: float) -> tuple[list[str], list[ClientError]]:
        """The wait that `Held` asked for is over: frames to write, and what to tell. Args: now: unix seconds."""
        self.held = False
        errors = self._too_old(now)
        return self.outbox.texts() if self.open else [], errors

    def end(self, error: RingwayError) -> None:
        """There will be no further connection."""
        self.open = False
        for receipt in [*(entry.receipt for entry in self.outbox.clear()), *chain(*self.groups.values())]:
            receipt.fail(error)
        self.groups.clear()

    # Heard from a node.

    def hear(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        """What one frame means to the application. Frames of newer nodes that are not known here mean nothing."""
        hear = _HEARD.get(frame.get("t", ""))
        return hear(self, frame) if hear else ()

    def _message(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        ch, gen, seq = frame["ch"], frame.get("gen"), frame.get("seq")
        if ch.startswith("g:") and ch[2:] in self._left:
            return ()
        message = Message(ch, frame["id"], frame["from"], frame["body"], frame["ts"], gen, seq)
        if gen is None or seq is None:
            return (message,)
        verdict, gap = self.positions.take(ch, gen, seq, frame.get("was"))
        if verdict is Verdict.AHEAD:
            return (Behind(ch),)
        happened: tuple[Gap | Message | None, ...] = (gap, message if verdict is Verdict.NEW else None)
        return [each for each in happened if each is not None]

    def _ok(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        entry = self.outbox.settle(frame["id"])
        if entry is not None:
            entry.receipt.settle(frame.get("seq"))
        return ()

    def _error(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        id, group = frame.get("id"), frame.get("group")
        error = FrameRefused(frame["code"], frame.get("message", ""), id)
        if error.code == RETRYABLE and id is not None and self.outbox.durable(id):
            self.held = True
            return (Held(error),)
        if group is not None:
            return self._join_refused(group, error)
        # Of a second copy of a message that has its answer, a refusal for the time being says nothing.
        settled = id is not None and (self._refuse(id, error) or error.code == RETRYABLE)
        return () if settled else (error,)

    def _join_refused(self, group: str, error: FrameRefused) -> Sequence[Happening]:
        waiting = self.groups.pop(group, [])
        for receipt in waiting:
            receipt.fail(error)
        self._refused.add(group)
        told: list[Happening] = [] if waiting else [error]
        return [*told, Behind(f"g:{group}")] if self.positions.refused(f"g:{group}") else told

    def _refuse(self, id: str, error: FrameRefused) -> bool:
        entry = self.outbox.settle(id)
        if entry is not None:
            entry.receipt.fail(error)
        return entry is not None

    def _joined(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        group = frame["group"]
        if group in self._left:
            return ()
        self._refused.discard(group)
        waiting = self.groups.setdefault(group, [])
        gap = self.positions.answered(f"g:{group}", frame)
        if self.positions.asked(f"g:{group}"):  # the node's own, from where the user has read
            return ()
        self.groups[group] = []
        joined = Joined(group, frame["gen"], frame["seq"], frame.get("unread", 0), frame.get("recovered", True),
                        frame.get("oldest"))
        for receipt in waiting:
            receipt.settle(joined)
        return () if gap is None else (gap,)

    def _position(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        gap = self.positions.continues(frame["ch"], frame)
        return () if gap is None else (gap,)

    def _leave_done(self, frame: Mapping[str, Any]) -> Sequence[Happening]:
        group = frame["group"]
        if group in self._left:
            self._left.discard(group)
        elif not self.groups.get(group):  # we did not ask, nor to come back: the application took us out
            self.groups.pop(group, None)
            self.positions.forget(f"g:{group}")
        return ()


_HEARD: dict[str, Any] = {
    "msg": Conversation._message, "ok": Conversation._ok, "error": Conversation._error,
    "joined": Conversation._joined, "position": Conversation._position, "left": Conversation._leave_done,
}
