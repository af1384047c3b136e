"""The client's connection policy as a pure function: (machine, event, now, random) -> (machine, actions).

No socket, clock or thread: `sync.py` and `aio.py` feed it events and carry out its actions, `js/ringway.js` is the
same machine in JavaScript, and `tests/vectors/machine.json` is run through both. A machine is a value; `step` makes
the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from ringway.core import close_codes
from ringway.core.backoff import full_jitter, spread

from .events import (
    Action,
    Adopt,
    Close,
    Connect,
    Drop,
    Event,
    LookupFailed,
    Lost,
    Move,
    Resolve,
    Routed,
    Start,
    Stop,
    Timer,
    Wait,
    Welcome,
)

MAX_HOPS = 5  # re-routes in a row without a healthy connection; then each further one backs off
HEALTHY_S = 5.0  # a connection that lasted this long wipes the count of hops and failures
RETRY_SPREAD_S = 0.2  # a broken connection: a crowd comes back to the same node over this window
AVOID_SPREAD_S = 0.25  # an unreachable node: a crowd that was not spread yet asks for another route over this window
MAX_RETRY_AFTER_S = 300.0

Random = Callable[[], float]


class State(StrEnum):
    """What a client is doing. `moving` has an open connection and makes the next one."""

    IDLE = "idle"
    RESOLVING = "resolving"
    WAITING = "waiting"
    CONNECTING = "connecting"
    OPEN = "open"
    MOVING = "moving"
    CLOSED = "closed"


# state -> event -> the states it may lead to. JavaScript exports the same table and a test compares the two.
TRANSITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "idle": {"start": ("resolving",), "close": ("closed",)},
    "resolving": {
        "routed": ("connecting", "waiting"),
        "lookup_failed": ("resolving", "waiting", "closed"),
        "close": ("closed",),
    },
    "waiting": {"timer": ("resolving", "connecting"), "close": ("closed",)},
    "connecting": {"welcome": ("open",), "lost": ("resolving", "waiting", "closed"), "close": ("closed",)},
    "open": {"move": ("open", "moving"), "lost": ("waiting", "closed"), "close": ("closed",)},
    "moving": {
        "routed": ("moving", "open"),
        "lookup_failed": ("moving",),
        "timer": ("moving",),
        "welcome": ("open",),
        "move": ("moving",),
        "lost": ("moving", "resolving", "connecting", "waiting", "closed"),
        "close": ("closed",),
    },
    "closed": {"close": ("closed",)},
}


class IllegalEvent(RuntimeError):
    """An event that the state does not know: a bug in the caller. The machine has not changed."""


class Machine(NamedTuple):
    """Everything the policy remembers; a tuple, as the next one is made several times a connection.

    `live` and `attempt` are the stamps of the connection in use and of what is being tried, 0 for none; `step` is what
    the attempt is at. `url` empty while waiting means: ask for a route when the wait is over. `patience_s`: how long
    the node keeps the connection in use while the next one is made.
    """

    lookups: int = 1
    step: State = State.IDLE
    stamp: int = 0
    live: int = 0
    attempt: int = 0
    url: str = ""
    node: str = ""
    live_url: str = ""
    live_node: str = ""
    resume: str = ""
    gen: int = 0
    epoch: int = 0
    avoid: str = ""
    lookup: int = 0
    tried: int = 0
    retry_after: float = 0.0
    failures: int = 0
    hops: int = 0
    retried: bool = False
    opened_at: float = 0.0
    patience_s: float = 0.0

    @property
    def state(self) -> State:
        if not self.live or self.step in (State.OPEN, State.CLOSED):
            return self.step
        return State.MOVING

    @property
    def min_epoch(self) -> str:
        """The highest ring version seen, as the lookup wants it."""
        return f"{self.gen}.{self.epoch}" if self.gen else ""


Step = tuple[Machine, tuple[Action, ...]]


def step(machine: Machine, event: Event, now: float, random: Random) -> Step:
    """The next machine and what to do, in order.

    Args:
        now: seconds of any steady clock.
        random: gives numbers in [0, 1).

    Raises:
        IllegalEvent: the state does not know the event.
    """
    if _is_late(machine, event):
        return machine, ()
    allowed = TRANSITIONS[machine.state].get(event.on)
    if allowed is None:
        raise IllegalEvent(f"{event.on} while {machine.state}")
    after, actions = _RULES[event.on](machine, event, now, random)
    if after.state not in allowed:
        raise IllegalEvent(f"{event.on} may not lead from {machine.state} to {after.state}")
    return after, actions


def _is_late(m: Machine, event: Event) -> bool:
    """Whether the event belongs to an attempt or connection that is over. Only `lost` concerns both kinds."""
    if isinstance(event, (Start, Close)):
        return False
    if isinstance(event, Lost):
        return event.stamp not in (m.live, m.attempt) or not event.stamp
    return event.stamp != (m.live if isinstance(event, Move) else m.attempt) or not event.stamp


def _start(m: Machine, event: Start, now: float, random: Random) -> Step:
    return _resolve(m._replace(lookup=int(random() * m.lookups)))


def _close(m: Machine, event: Close, now: float, random: Random) -> Step:
    return _end(m)


def _routed(m: Machine, event: Routed, now: float, random: Random) -> Step:
    m = _saw(m, event.gen, event.epoch)._replace(url=event.url, node=event.node)
    if m.live and event.node == m.live_node:  # the ring changed back: nothing to move
        return m._replace(step=State.OPEN, attempt=0), ()
    if event.connect_after_ms > 0:
        return _wait(m, event.connect_after_ms / 1000)
    return _connect(m)


def _lookup_failed(m: Machine, event: LookupFailed, now: float, random: Random) -> Step:
    mendable = event.status in (0, 408, 429) or event.status >= 500
    if not mendable and not m.live:
        return _end(m, Stop(event.status, event.code, event.message))
    m = m._replace(tried=m.tried + 1, retry_after=max(m.retry_after, min(event.retry_after, MAX_RETRY_AFTER_S)))
    if mendable and event.status != 429 and m.tried < m.lookups:
        return _resolve(m._replace(lookup=(m.lookup + 1) % m.lookups), anew=False)
    m = m._replace(failures=m.failures + 1, url="")
    if m.retry_after:
        return _wait(m, m.retry_after + spread(max(1.0, m.retry_after), random))
    return _wait(m, full_jitter(m.failures, random))


def _timer(m: Machine, event: Timer, now: float, random: Random) -> Step:
    return _connect(m) if m.url else _resolve(m)


def _welcome(m: Machine, event: Welcome, now: float, random: Random) -> Step:
    old = (Drop(m.live),) if m.live else ()
    opened = _saw(m, event.gen, event.epoch)._replace(
        step=State.OPEN, live=event.stamp, attempt=0, live_url=m.url, live_node=event.node, resume=event.resume,
        avoid="", opened_at=now,
    )
    return opened, (Adopt(event.stamp), *old)


def _move(m: Machine, event: Move, now: float, random: Random) -> Step:
    if (event.gen, event.epoch) < (m.gen, m.epoch):  # a node behind the ring may not redirect anybody
        return m, ()
    old = (Drop(m.attempt),) if m.attempt else ()
    m = _saw(m, event.gen, event.epoch)._replace(url=event.url, node=event.node, patience_s=event.deadline_ms / 1000)
    m, actions = _connect(m)
    return m, (*old, *actions)


def _lost(m: Machine, event: Lost, now: float, random: Random) -> Step:
    wish = close_codes.parse_reason(event.reason)
    m = _saw(m, m.gen, wish.epoch)
    if event.stamp == m.attempt:
        return _after_failure(m._replace(attempt=0), event, wish.spread_ms / 1000, random, apart=m.retried)
    if now - m.opened_at >= HEALTHY_S:
        m = m._replace(failures=0, hops=0, retried=False)
    if m.step is State.OPEN:
        return _after_loss(m._replace(live=0, node=m.live_node), event, wish.spread_ms / 1000, random)
    # Moving. A 4009 may be our own new session taking over before its welcome reached us.
    if close_codes.action_for(event.code) is close_codes.Action.STOP and event.code != close_codes.CloseCode.REPLACED:
        return _end(m._replace(live=0), Stop(event.code, event.reason))
    return m._replace(live=0), ()


def _after_loss(m: Machine, event: Lost, window_s: float, random: Random) -> Step:
    """The connection in use ended: back to the same node once, if the code says so and there is a resume ticket."""
    again = close_codes.action_for(event.code) is close_codes.Action.RETRY_NODE and m.resume and not m.retried
    if not again:
        return _after_failure(m, event, window_s, random)
    m = m._replace(retried=True, url=with_ticket(m.live_url, m.resume), resume="")
    return _wait(m, spread(window_s or RETRY_SPREAD_S, random))


def _after_failure(m: Machine, event: Lost, window_s: float, random: Random, *, apart: bool = False) -> Step:
    """Nothing more to gain from this node: stop, or ask for a route now or later.

    Args: apart: a crowd was spread before it tried the node again, and need not be again.
    """
    action = close_codes.action_for(event.code)
    if action is close_codes.Action.STOP and not m.live:
        return _end(m, Stop(event.code, event.reason))
    m = m._replace(url="")
    if action is close_codes.Action.RE_ROUTE:
        m = m._replace(hops=m.hops + 1, avoid="")
        if m.hops <= MAX_HOPS:
            return _wait(m, spread(window_s, random))
    unreachable = action is close_codes.Action.RETRY_NODE and not 4200 <= event.code <= 4299
    first = unreachable and not m.failures
    m = m._replace(failures=m.failures + 1, avoid=m.node if unreachable else m.avoid)
    if first and apart and not window_s:
        return _resolve(m)
    delay_s = spread(AVOID_SPREAD_S, random) if first else full_jitter(m.failures, random)
    return _wait(m, max(delay_s, spread(window_s, random)))


def _resolve(m: Machine, *, anew: bool = True) -> Step:
    if anew:
        m = m._replace(tried=0, retry_after=0.0)
    m = _attempt(m, State.RESOLVING)
    return m, (Resolve(m.attempt, m.lookup, m.min_epoch, m.avoid),)


def _connect(m: Machine) -> Step:
    m = _attempt(m, State.CONNECTING)
    # With a connection in use there is nothing to gain by giving up early; without, the next node may do better.
    return m, (Connect(m.attempt, m.url, m.patience_s if m.live else 0.0),)


def _wait(m: Machine, delay_s: float) -> Step:
    m = _attempt(m, State.WAITING)
    return m, (Wait(m.attempt, delay_s),)


def _end(m: Machine, *last: Action) -> Step:
    drops = [Drop(stamp) for stamp in (m.attempt, m.live) if stamp]
    return m._replace(step=State.CLOSED, live=0, attempt=0, resume=""), (*drops, *last)


def _attempt(m: Machine, at: State) -> Machine:
    return m._replace(step=at, stamp=m.stamp + 1, attempt=m.stamp + 1)


def _saw(m: Machine, gen: int, epoch: int) -> Machine:
    if (gen, epoch) <= (m.gen, m.epoch):
        return m
    return m._replace(gen=gen, epoch=epoch)


def with_ticket(url: str, ticket: str) -> str:
    """The URL with its ticket replaced. Tickets are URL-safe as they are (JWT: base64url and dots)."""
    return re.sub(r"([?&]ticket=)[^&]*", lambda match: match.group(1) + ticket, url)


_RULES: dict[str, Callable[[Machine, Any, float, Random], Step]] = {
    "start": _start, "close": _close, "routed": _routed, "lookup_failed": _lookup_failed, "timer": _timer,
    "welcome": _welcome, "move": _move, "lost": _lost,
}
