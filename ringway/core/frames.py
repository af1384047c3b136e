"""The frames of `ringway.v1`: JSON text, one object each. `docs/protocol.md` is their specification.

One parser for what clients send, one serialiser for what nodes send. Bodies are any JSON value; a node passes on their
value, written anew. Fields that are not named here are ignored, so that newer clients can talk to older nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from .errors import InvalidFrame, InvalidInput
from .members import Version
from .uids import validate_group, validate_uid

FRAME_LIMIT = 65536
MAX_RECIPIENTS = 1000
MAX_ID_BYTES = 64
DEDUP_S = 3600  # for so long at least a log knows a message's id
MAX_DEPTH = 254  # of lists and objects in a body: what can be written again; more can be read
SUBPROTOCOL = "ringway.v1"
_GEN = re.compile(r"[0-9A-Za-z_-]{1,32}")
_ID = re.compile(r"[\x21-\x7e]{1,64}")
_MAX_SEQ = 1 << 53  # JSON numbers are exact up to here in every language


class Position(NamedTuple):
    """A place in a channel's log: everything up to and including `seq` of incarnation `gen` is had."""

    gen: str
    seq: int

    def __str__(self) -> str:
        return f"{self.gen}:{self.seq}"

    @classmethod
    def parse(cls, text: str, field: str = "inbox") -> Position:
        """Read `gen:seq`, as in the query of the node's URL. Raises InvalidFrame."""
        gen, _, seq = text.rpartition(":")
        if seq.isascii() and seq.isdigit() and len(seq) < 16:
            return _position({"gen": gen, "seq": int(seq)}, field)
        raise InvalidFrame(field, text, "must be gen:seq", "send back the gen and seq of the last frame you had")


@dataclass(frozen=True, slots=True)
class Send:
    """A message to one or several users. `id` is the sender's own, for `ok` and for de-duplication.

    `json` is the body's text, which is what goes on: what somebody changes in `body` does not.
    """

    id: str
    to: tuple[str, ...]
    body: Any
    json: bytes
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class Join:
    """Take part in a group; with `from_`, everything after that position comes first."""

    group: str
    from_: Position | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    group: str


@dataclass(frozen=True, slots=True)
class Publish:
    """A message to a group. `json` as in Send."""

    id: str
    group: str
    body: Any
    json: bytes


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A volatile message to every session of the cluster."""

    id: str
    body: Any
    json: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The user has read the channel up to `seq` of incarnation `gen`."""

    ch: str
    gen: str
    seq: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a `pong`: browsers cannot send WebSocket pings."""


@dataclass(frozen=True, slots=True)
class Moving:
    """The client is making the connection that `move` asked for; the node is to keep this one meanwhile."""


ClientFrame = Send | Join | Leave | Publish | Broadcast | Ack | Ping | Moving


def parse_client_frame(text: str | bytes) -> ClientFrame:
    """Read one client frame.

    Raises:
        InvalidFrame: with the field, the value, the rule and the remedy, and the frame's id, or a join's group, where
            one could be read. Its code is bad_frame, or unknown_frame for a `t` that is not known.
    """
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidFrame("frame", text[:80], f"must be JSON ({error})", "send one JSON object a message") from None
    if not isinstance(raw, dict):
        raise InvalidFrame("frame", raw, "must be a JSON object", 'send {"t": ...}')
    return client_frame(raw)


def client_frame(raw: Mapping[str, Any]) -> ClientFrame:
    """As `parse_client_frame`, of JSON that has been read."""
    t = raw.get("t")
    parse = _PARSERS.get(t) if isinstance(t, str) else None
    if parse is None:
        raise InvalidFrame("t", t, f"must be one of {', '.join(_PARSERS)}", "see docs/protocol.md",
                           code="unknown_frame", id=_known(raw, "id"))
    try:
        return parse(raw)
    except InvalidInput as error:
        id, group = _known(raw, "id"), _known(raw, "group") if t == "join" else None
        raise InvalidFrame(error.field, error.value, error.rule, error.remedy, id=id, group=group) from None


def _known(raw: Mapping[str, Any], field: str) -> str | None:
    """What to name in an error frame, so that its sender knows which one it was: also an id that is none."""
    try:
        return validate_uid(raw.get(field), field)
    except InvalidInput:
        return None


def _send(raw: Mapping[str, Any]) -> Send:
    to = raw.get("to")
    uids = recipients(to) if isinstance(to, list) else (validate_uid(to, "to"),)
    volatile = raw.get("volatile", False)
    if not isinstance(volatile, bool):
        raise InvalidFrame("volatile", volatile, "must be true or false", "leave it out for a durable message")
    return Send(message_id(raw.get("id")), uids, raw.get("body"), _body(raw), volatile)


def recipients(to: Sequence[Any]) -> tuple[str, ...]:
    """Each once, in their order. Raises InvalidInput: a bad uid, none, or more than 1000."""
    if not 1 <= len(to) <= MAX_RECIPIENTS:
        raise InvalidFrame("to", len(to), f"must be 1 to {MAX_RECIPIENTS} uids", "split the list")
    return tuple(dict.fromkeys(validate_uid(uid, "to") for uid in to))


def _publish(raw: Mapping[str, Any]) -> Publish:
    return Publish(message_id(raw.get("id")), validate_group(raw.get("group")), raw.get("body"), _body(raw))


def _broadcast(raw: Mapping[str, Any]) -> Broadcast:
    return Broadcast(message_id(raw.get("id")), raw.get("body"), _body(raw))


def _join(raw: Mapping[str, Any]) -> Join:
    at = raw.get("from")
    return Join(validate_group(raw.get("group")), None if at is None else _position(at, "from"))


def _leave(raw: Mapping[str, Any]) -> Leave:
    return Leave(validate_group(raw.get("group")))


def _ack(raw: Mapping[str, Any]) -> Ack:
    ch = raw.get("ch")
    if not isinstance(ch, str) or ch[:2] not in ("u:", "g:"):
        raise InvalidFrame("ch", ch, "must be u:<uid> or g:<group>", "send back the ch of the msg frame")
    validate_uid(ch[2:], "ch")
    position = _position(raw, "seq")
    return Ack(ch, position.gen, position.seq)


def _ping(_raw: Mapping[str, Any]) -> Ping:
    return Ping()


def _moving(_raw: Mapping[str, Any]) -> Moving:
    return Moving()


_PARSERS: dict[str, Callable[[Mapping[str, Any]], ClientFrame]] = {
    "send": _send, "join": _join, "leave": _leave, "publish": _publish, "broadcast": _broadcast, "ack": _ack,
    "ping": _ping, "moving": _moving,
}


def message_id(value: Any) -> str:
    """A message's id as it may be sent. Raises InvalidInput."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    rule = f"must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces"
    raise InvalidFrame("id", value, rule, "give each message an id of its own, such as a UUID")


def _body(raw: Mapping[str, Any]) -> bytes:
    if "body" not in raw:
        raise InvalidFrame("body", None, "must be there", "add a body; null is allowed")
    return body_json(raw["body"])


def body_json(body: Any) -> bytes:
    """The text of a message's body. Raises InvalidInput where it is no JSON value, or nested too deep."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        rule = f"must be a JSON value that is nested at most {MAX_DEPTH} levels deep ({error})"
        raise InvalidInput("body", body, rule, "send a flatter one, or a part of it as text") from None


def _position(raw: Any, field: str) -> Position:
    gen, seq = (raw.get("gen"), raw.get("seq")) if isinstance(raw, Mapping) else (None, None)
    if isinstance(gen, str) and _GEN.fullmatch(gen) and type(seq) is int and 0 <= seq < _MAX_SEQ:
        return Position(gen, seq)
    raise InvalidFrame(field, raw, "must have a gen (text) and a seq (whole number)",
                       "send back the gen and seq of the last frame you had")


# What nodes send. Every helper returns the JSON text as bytes, ready to be framed once for any number of sessions.


def welcome(
    *, sid: str, uid: str, node: str, version: Version, resume: str, ping_s: float, inbox: Mapping[str, Any],
    rate: float | None = None,
) -> bytes:
    """The first frame of a session. `inbox` is {gen, seq, unread, recovered, oldest?}; `resume` a resume ticket.

    `rate`: messages a second that the node takes from it, where there is a limit.
    """
    frame = {
        "t": "welcome", "sid": sid, "uid": uid, "node": node, "gen": version.gen, "epoch": version.epoch,
        "resume": resume, "ping_s": ping_s, "dedup_s": DEDUP_S, "inbox": inbox,
    }
    return orjson.dumps(frame if rate is None else {**frame, "rate": rate})


def joined(
    *, group: str, gen: str, seq: int, unread: int, recovered: bool, oldest: int | None = None,
    asked: Position | None = None,
) -> bytes:
    """The answer to `join`, before the group's history: the same fields as welcome's inbox.

    `asked`: the position that the `join` gave. A node joins members by itself too, and a client must not take that for
    the answer to its own.
    """
    frame: dict[str, Any] = {
        "t": "joined", "group": group, "gen": gen, "seq": seq, "unread": unread, "recovered": recovered,
    }
    if oldest is not None:
        frame["oldest"] = oldest
    if asked is not None:
        frame["from"] = asked._asdict()
    return orjson.dumps(frame)


def position(*, ch: str, gen: str, seq: int, recovered: bool, oldest: int | None = None) -> bytes:
    """In an open session: the channel's log goes on as `gen`, and the session is at `seq` of it.

    Redis came back as another process (`recovered`: nothing is missing), or what came before `oldest` is gone.
    """
    frame = {"t": "position", "ch": ch, "gen": gen, "seq": seq, "recovered": recovered}
    return orjson.dumps(frame if oldest is None else {**frame, "oldest": oldest})


def left(*, group: str) -> bytes:
    """The answer to `leave`."""
    return orjson.dumps({"t": "left", "group": group})


def msg_head(*, ch: str, id: str, sender: str, body: Any, was: Position | None = None) -> bytes:
    """A `msg` frame up to where the log adds `gen`, `seq`, `ts` and the closing brace.

    `was` is the place that the message had before Redis lost it.
    """
    head = orjson.dumps({"t": "msg", "ch": ch, "id": id, "from": sender, "body": body})[:-1]
    return head if was is None else head + b',"was":{"gen":"%s","seq":%d}' % (was.gen.encode(), was.seq)


def msg_tail(*, gen: str, seq: int, ts: int) -> bytes:
    """What the log's script adds to `msg_head`. `ts` is unix milliseconds."""
    return b',"gen":"%s","seq":%d,"ts":%d}' % (gen.encode(), seq, ts)


def volatile_msg(*, ch: str, id: str, sender: str, body: Any, ts: int) -> bytes:
    """A `msg` frame that is in no log: it has no gen and no seq."""
    return orjson.dumps({"t": "msg", "ch": ch, "id": id, "from": sender, "body": body, "ts": ts})


def ok(*, id: str, seq: int | None = None) -> bytes:
    """A message is in the log (seq: its place there, where it had one recipient), or a volatile one was sent on."""
    return orjson.dumps({"t": "ok", "id": id} if seq is None else {"t": "ok", "id": id, "seq": seq})


def error(*, code: str, message: str, id: str | None = None, group: str | None = None) -> bytes:
    """A refused frame. `code` is for programs (bad_frame, forbidden, unavailable, ...), `message` for people.

    `id` names the message, `group` the join that was refused.
    """
    frame = {"t": "error", "code": code, "message": message, "id": id, "group": group}
    return orjson.dumps({name: value for name, value in frame.items() if value is not None})


def move(*, node: str, url: str, version: Version, deadline_ms: int) -> bytes:
    """The session's next place: a node, and a complete URL with its ticket, good for deadline_ms milliseconds."""
    return orjson.dumps({
        "t": "move", "node": node, "url": url, "gen": version.gen, "epoch": version.epoch, "deadline_ms": deadline_ms,
    })


PONG = b'{"t":"pong"}'
