"""What travels over pub/sub between nodes, lookups and back ends. Pure.

    <kind> TAB <f if forwarded> TAB ... LF <JSON>

One header line and the JSON after it, so that a node can tell what a notice is for without reading the JSON, and a Lua
script can write one. Names of channels hold no control characters (core.uids), so TAB and LF separate.

Kinds: `L` a message of a log (append.lua writes these), `V` a volatile message, `C` an order to the node itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ringway.core.errors import InvalidInput

_FORWARDED = b"f"


@dataclass(frozen=True, slots=True)
class LogNotice:
    """A message that is in the log of `ch` under (gen, seq). `frame` is the whole `msg` frame."""

    ch: str
    gen: str
    seq: int
    frame: bytes
    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class VolatileNotice:
    """A message that is in no log. `ch` is u:<uid>, g:<group>, or `*` for everybody."""

    ch: str
    frame: bytes
    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Control:
    """An order to a node: `op` and what it needs, such as {"op": "drain"}."""

    op: str
    args: Mapping[str, Any]


Notice = LogNotice | VolatileNotice | Control

EVERYBODY = "*"


def encode(notice: Notice) -> bytes:
    """The payload for PUBLISH."""
    if isinstance(notice, Control):
        return b"C\t\n" + orjson.dumps({"op": notice.op, **notice.args})
    mark = "f" if notice.forwarded else ""
    if isinstance(notice, LogNotice):
        return f"L\t{mark}\t{notice.gen}\t{notice.seq}\t{notice.ch}\n".encode() + notice.frame
    return f"V\t{mark}\t{notice.ch}\n".encode() + notice.frame


def decode(payload: bytes) -> Notice:
    """The notice. The JSON of a message is not looked at.

    Raises:
        InvalidInput: not a notice, or one of a kind that this version does not know.
    """
    header, _, rest = payload.partition(b"\n")
    try:
        kind, mark, *fields = header.split(b"\t")
        if kind == b"L":
            gen, seq, ch = fields
            return LogNotice(ch.decode(), gen.decode(), int(seq), rest, mark == _FORWARDED)
        if kind == b"V":
            (ch,) = fields
            return VolatileNotice(ch.decode(), rest, mark == _FORWARDED)
        if kind == b"C":
            args = orjson.loads(rest)
            return Control(str(args.pop("op")), args)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_a_notice(payload) from error
    raise _not_a_notice(payload)


def forwarded(payload: bytes) -> bytes:
    """The same notice, marked as forwarded: whoever gets it must not forward it again."""
    kind, _, rest = payload.partition(b"\t")
    return kind + b"\tf" + rest[rest.index(b"\t"):]


def _not_a_notice(payload: bytes) -> InvalidInput:
    rule, remedy = "must be L, V or C with its fields", "run one version of ringway on all nodes and back ends"
    return InvalidInput("notice", payload[:80], rule, remedy)
