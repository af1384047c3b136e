"""What happens to a client, and what it does about it: the vocabulary of `machine.py`, in plain values.

Field names are those of the wire and of `tests/vectors/machine.json`. A `stamp` numbers each attempt (a route asked
for, a connection opened, a wait), so that what an older one still reports changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

BROKEN = 1006  # RFC 6455, 7.1.5: no close frame came; also a connection that never opened


@dataclass(frozen=True, slots=True)
class Start:
    """The application wants a connection."""

    on: ClassVar[str] = "start"


@dataclass(frozen=True, slots=True)
class Close:
    """The application wants none any more."""

    on: ClassVar[str] = "close"


@dataclass(frozen=True, slots=True)
class Routed:
    """The lookup answered: open `url` (ticket included), after `connect_after_ms` milliseconds."""

    on: ClassVar[str] = "routed"
    stamp: int
    url: str
    node: str
    gen: int
    epoch: int
    connect_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """One lookup gave no route: an HTTP status, or 0 if it was out of reach. `retry_after` in seconds, 0 if unsaid."""

    on: ClassVar[str] = "lookup_failed"
    stamp: int
    status: int = 0
    retry_after: float = 0.0
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The node took the session. `resume` is a ticket for one return to the same node."""

    on: ClassVar[str] = "welcome"
    stamp: int
    node: str
    gen: int
    epoch: int
    resume: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A connection ended, or did not come about (1006)."""

    on: ClassVar[str] = "lost"
    stamp: int
    code: int = BROKEN
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """The node hands the session over to `node`, behind `url`, and keeps this connection for `deadline_ms` at least."""

    on: ClassVar[str] = "move"
    stamp: int
    url: str
    gen: int
    epoch: int
    deadline_ms: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Timer:
    """A wait is over."""

    on: ClassVar[str] = "timer"
    stamp: int


Event = Start | Close | Routed | LookupFailed | Welcome | Lost | Move | Timer


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask lookup number `lookup` for a route; leave out `min_epoch` and `avoid` where empty."""

    do: ClassVar[str] = "resolve"
    stamp: int
    lookup: int
    min_epoch: str = ""
    avoid: str = ""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a WebSocket; add the inbox position to the URL. It has `within_s` seconds, and as long as any other."""

    do: ClassVar[str] = "connect"
    stamp: int
    url: str
    within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Report `Timer` after `delay_s` seconds."""

    do: ClassVar[str] = "wait"
    stamp: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Adopt:
    """From now on this connection is the one to send on: join groups, send again what had no ok."""

    do: ClassVar[str] = "adopt"
    stamp: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Close this connection with 1000, or forget this request or wait."""

    do: ClassVar[str] = "drop"
    stamp: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up for good: a close `code` (>= 1000), or an HTTP status of the lookup, that trying again cannot mend."""

    do: ClassVar[str] = "stop"
    code: int
    reason: str = ""
    message: str = ""


Action = Resolve | Connect | Wait | Adopt | Drop | Stop
EVENTS: dict[str, type[Event]] = {
    kind.on: kind for kind in (Start, Close, Routed, LookupFailed, Welcome, Lost, Move, Timer)
}
