"""The one table of close codes. Python, JavaScript, docs and tests are checked against it.

The range carries the policy, so an old client obeys a new code (as in Pusher's and Centrifugo's protocols).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

import orjson

MAX_REASON_BYTES = 123  # RFC 6455, section 5.5: a control frame holds 125 bytes, two are the code


class Action(StrEnum):
    """What a client does after a close."""

    STOP = "stop"
    BACK_OFF = "back_off"
    RETRY_NODE = "retry_node"
    RE_ROUTE = "re_route"


class CloseCode(IntEnum):
    """Close codes that ringway's nodes send. Members know their meaning: `CloseCode.MOVED.meaning`."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    BAD_PROTOCOL = 4000
    UNAUTHORIZED = 4001
    FORBIDDEN = 4003
    REPLACED = 4009
    SIGNED_OUT = 4010
    NODE_FULL = 4100
    SLOW_CONSUMER = 4101
    RATE_LIMITED = 4102
    NODE_ERROR = 4103
    NO_PONG = 4200
    GAP = 4202
    MOVED = 4300
    DRAINING = 4301
    WRONG_NODE = 4302
    STALE_TICKET = 4303
    OPERATOR = 4304

    @property
    def meaning(self) -> str:
        return MEANINGS[self]


MEANINGS: dict[CloseCode, str] = {
    CloseCode.NORMAL: "done: one side said goodbye",
    CloseCode.GOING_AWAY: "the server or page goes away",
    CloseCode.PROTOCOL_ERROR: "a WebSocket frame breaks RFC 6455",
    CloseCode.UNSUPPORTED_DATA: "a binary frame where text is due",
    CloseCode.INVALID_DATA: "text that is not UTF-8",
    CloseCode.TOO_BIG: "a message over the size limit",
    CloseCode.INTERNAL_ERROR: "an error below ringway's own protocol",
    CloseCode.BAD_PROTOCOL: "too many frames that break ringway.v1",
    CloseCode.UNAUTHORIZED: "the ticket is missing, malformed or forged",
    CloseCode.FORBIDDEN: "the application refused the user",
    CloseCode.REPLACED: "a newer session of the user took over",
    CloseCode.SIGNED_OUT: "the user was signed out",
    CloseCode.NODE_FULL: "the node is at its connection limit",
    CloseCode.SLOW_CONSUMER: "the outgoing queue reached its limit",
    CloseCode.RATE_LIMITED: "too many messages in a given time",
    CloseCode.NODE_ERROR: "an error on the node",
    CloseCode.NO_PONG: "a ping was not answered in time",
    CloseCode.GAP: "the node cannot continue the stream; resume from the positions",
    CloseCode.MOVED: "the ring gave the user to another node",
    CloseCode.DRAINING: "the node is being drained",
    CloseCode.WRONG_NODE: "another node owns the user",
    CloseCode.STALE_TICKET: "the ticket is expired, used, or of a ring the node cannot check yet",
    CloseCode.OPERATOR: "an operator asked the session to reconnect",
}

# (first, last, action). Codes that no range names are treated as a broken connection: RETRY_NODE, then BACK_OFF.
RANGES: tuple[tuple[int, int, Action], ...] = (
    (1000, 1000, Action.STOP),
    (4000, 4099, Action.STOP),
    (4100, 4199, Action.BACK_OFF),
    (4200, 4299, Action.RETRY_NODE),
    (4300, 4399, Action.RE_ROUTE),
)
OTHERWISE = Action.RETRY_NODE


def action_for(code: int) -> Action:
    """What a client does after a close with this code. 1006 stands for a connection that just broke."""
    return next((action for first, last, action in RANGES if first <= code <= last), OTHERWISE)


class Reason(NamedTuple):
    """A close reason: spread the return over `spread_ms` milliseconds; the closing node's ring epoch."""

    spread_ms: int = 0
    epoch: int = 0


def reason_text(spread_ms: int = 0, epoch: int = 0) -> str:
    """The close reason on the wire: at most 123 bytes of JSON."""
    return orjson.dumps({"w": int(spread_ms), "e": int(epoch)}).decode()


def parse_reason(text: str) -> Reason:
    """Read a close reason. Anything that is not ours reads as no wish at all: a reason must never break a client."""
    try:
        raw = orjson.loads(text)
        return Reason(*(max(0, int(raw.get(field, 0))) for field in ("w", "e")))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError, OverflowError):
        return Reason()
