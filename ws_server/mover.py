"""Carries out moves: tells sessions their new place, closes at the deadline those that did not go.

`rebalance.py` decides; this has the clock, the frames and the sockets. What was decided is looked at again when it is
done: a ring that changed back leaves a session where it is.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from math import inf
from typing import NamedTuple

import gevent

from ringway.core import frames
from ringway.core.close_codes import CloseCode, reason_text
from ringway.core.history import Change, RingHistory, RingView
from ringway.core.members import Member

from .away import Away
from .gate import Gate
from .log_reader import LogReader
from .rebalance import Plan, Policy, joined, new_home
from .sessions import Session, Sessions, User
from .wire import encode_text

log = logging.getLogger(__name__)

TICK_S = 0.05
SWEEP_S = 30.0
STRAYS_S = 2.0  # how often the owners of users placed here for them are looked at
MARK_S = 20.0
LOOKS = 2000  # logs looked at each time; of more users, in turn
SLICE = 1000  # users looked at before others have a turn of the loop
TICKET_S = 30.0  # a move ticket is good for this long beyond the deadline
DEADLINES = 3  # so many for a session that says during each that it is about to go; one for a session that is silent

IsBack = Callable[[Member], bool]


class _Deadline(NamedTuple):
    """When a session that was told to move is looked at; `number` counts from 1."""

    at: float
    session: Session
    anyway: bool
    number: int


class _Noted(NamedTuple):
    """Of a user who is not this node's own: when its record was renewed, and its log looked at."""

    renewed: float = -inf
    looked: float = -inf


class Mover:
    """Moves sessions to where the ring wants them."""

    def __init__(
        self, me: str, history: RingHistory, sessions: Sessions, gate: Gate, away: Away, reader: LogReader,
        plan: Plan, *, policy: Policy, deadline_s: float, spread_s: float, is_back: IsBack,
    ) -> None:
        """Args: is_back: whether a member that was down can be reached again; blocks."""
        self._me, self._history, self._sessions = me, history, sessions
        self._gate, self._away, self._reader, self._plan = gate, away, reader, plan
        self._policy, self._deadline_s, self._spread_s, self._is_back = policy, deadline_s, spread_s, is_back
        self._deadlines: deque[_Deadline] = deque()
        self._strays: dict[User, None] = {}
        self._noted: dict[User, _Noted] = {}
        self.draining = False
        self.without_ring = False  # draining, and no ring without this node will come: move to the heirs
        self.counts: Counter[str] = Counter()

    @property
    def planned(self) -> int:
        """Users still to be told."""
        return len(self._plan)

    @property
    def leaving(self) -> int:
        """Sessions that were told and may still be here."""
        return len(self._deadlines)

    @property
    def breaker_open(self) -> bool:
        return self._plan.breaker.is_open(time.monotonic())

    # What happens.

    def ring_changed(self, change: Change) -> None:
        """A newer ring. Never blocks."""
        now = time.monotonic()
        self._plan.breaker.changed(now, unfinished=bool(self._plan))
        if self.draining and self._me not in change.new.ring.weights:
            self._place(self._sessions.users.values())
        elif self._policy is Policy.ALL and joined(change):
            self.counts["planned"] += self._plan.add(self._sessions.users.values(), anyway=True)
        elif change.old is None or self._me not in change.old.ring.weights:  # what it kept meanwhile is in no arc
            self._place(self._sessions.users.values())
        else:
            self._place(self._sessions.in_arcs(change.arcs))
            self._place(user for user in self._sessions.users.values() if user.unsure or user.away)

    def rebalance(self) -> None:
        """Move everybody who is misplaced, whatever the policy: the operator's word. Blocks now and then."""
        for users in _slices(self._sessions.users.values()):
            self.counts["planned"] += self._plan.add(user for user in users if self._home(user))

    def drain(self, within_s: float) -> None:
        """Move everybody, fast enough to have told all within that many seconds."""
        self.draining = True
        self._plan.hurry(within_s)
        self._place(self._sessions.users.values())

    def drain_without_ring(self) -> None:
        """The ring will not let go of this node: give each user to the next on the ring, as if this node were down."""
        self.without_ring = True
        self._place(self._sessions.users.values())

    def gone(self, session: Session) -> None:
        """A session has ended."""
        if not session.user.sessions:
            self._plan.drop(session.user)
            self._strays.pop(session.user, None)

    def placed_away(self, user: User) -> None:
        """A user came whom this node does not own."""
        self._strays[user] = None

    def _place(self, users: Iterable[User]) -> None:
        """Schedule those who have another home now, and let the others be."""
        keep = self._policy is Policy.NONE and not self.draining
        for user in users:
            home = self._home(user)
            user.unsure = False
            if home is None:
                self._plan.drop(user)
                if user.away is not None and self._owns(user):
                    user.away = None
                    self._strays.pop(user, None)
            elif keep:
                self._strays[user] = None
            else:
                self.counts["planned"] += self._plan.add([user])

    def _home(self, user: User) -> Member | None:
        view = self._history.current
        home = new_home(user, view, me=self._me, draining=self.draining)
        if home is None and self.without_ring and view is not None:
            heirs = [node for node in view.ring.preference(user.uid, 2) if node != self._me]
            return view.member(heirs[0]) if heirs else None
        return home

    def _owns(self, user: User) -> bool:
        view = self._history.current
        return view is not None and len(view.ring) > 0 and view.ring.owner_at(user.position) == self._me

    # Greenlets.

    def run(self) -> None:
        """Tell those who are due, and close those whose time is over; until killed."""
        while True:
            gevent.sleep(TICK_S)
            now = time.monotonic()
            for user, anyway in self._plan.due(now, self._sessions.count, draining=self.draining):
                self._tell(user, now, anyway=anyway)
            while self._deadlines and self._deadlines[0].at <= now:
                self._time_over(self._deadlines.popleft(), now)

    def sweep(self) -> None:
        """Find users that are misplaced although no change said so; until killed."""
        while True:
            gevent.sleep(SWEEP_S * random.uniform(0.8, 1.2))
            if self._policy is Policy.NONE and not self.draining:
                continue
            for users in _slices(self._sessions.users.values()):
                found = [user for user in users if not self._leaves(user) and self._home(user)]
                self.counts["misplaced"] += len(found)
                self.counts["planned"] += self._plan.add(found)

    def watch_strays(self) -> None:
        """Keep up the records of users who are not this node's own, and send home who was placed here; until killed."""
        while True:
            gevent.sleep(STRAYS_S)
            strays = list(self._strays)
            self._send_home()
            self._note((*self._strays, *self._of_others()))
            # The owner of strays may be frozen, and take notices and pass none on, or dead. So their logs are looked at
            # themselves, a last time of those who go home now: what came before the owner was back is with nobody else.
            # Those of others too: an owner that has one of a user's sessions does not ask for records of the rest.
            self._reader.sweep([user.inbox for user in dict.fromkeys((*strays, *self._to_look_at()))])

    def _of_others(self) -> Iterable[User]:
        """Users that the ring gives to other nodes: those still to go, or all, where this node is off the ring."""
        view = self._history.current
        if view is not None and self._me not in view.ring.weights:
            return self._sessions.users.values()
        going = (*self._plan, *(deadline.session.user for deadline in self._deadlines))
        return [user for user in going if not self._owns(user)]

    def _note(self, users: Iterable[User]) -> None:
        """Keep records of where these are: an owner that began after the ring had changed knows of no earlier one."""
        now, noted = time.monotonic(), dict[User, _Noted]()
        for some in _slices(users):
            found = {user: self._noted.get(user, _Noted()) for user in some}
            due = [user for user, at in found.items() if now - at.renewed > MARK_S]
            if due and self._away.mark([user.uid for user in due]):
                found |= {user: found[user]._replace(renewed=now) for user in due}
            noted |= found
        self._noted = noted

    def _to_look_at(self) -> list[User]:
        """Some of the noted users in turn, besides strays, whose turn it always is."""
        now = time.monotonic()
        others = (user for user in self._noted if user not in self._strays)
        found = nsmallest(LOOKS, others, key=lambda user: self._noted[user].looked)
        self._noted |= {user: self._noted[user]._replace(looked=now) for user in found}
        return found

    def _send_home(self) -> None:
        view = self._history.current
        by_owner: dict[str, list[User]] = {}
        for user in self._strays:
            if user.away is not None:
                by_owner.setdefault(user.away, []).append(user)
        for owner, users in by_owner.items():
            member = view.member(owner) if view else None
            if view is None or member is None or owner not in view.ring.weights or not self._is_back(member):
                continue
            log.info("node %s is back: sending %d users home", owner, len(users))
            self.counts["returned"] += len(users)
            for user in users:
                user.away = None
                self._strays.pop(user, None)
            self._place(users)

    # One user.

    def _tell(self, user: User, now: float, *, anyway: bool) -> None:
        view = self._history.current
        home = self._home(user) or (view.member(self._me) if anyway and view else None)
        if home is None or view is None:
            return
        for session in user.sessions:
            if not session.moving:
                session.moving, session.going = True, False
                self._move(session, home, view)
                self._deadlines.append(_Deadline(now + self._deadline_s, session, anyway, 1))

    def _move(self, session: Session, home: Member, view: RingView) -> None:
        reason = "softdown" if self.without_ring else "move"
        ticket = self._gate.ticket(session, home.id, reason, self._deadline_s + TICKET_S)
        url = f"{home.url}?ticket={ticket}"
        deadline_ms = int(self._deadline_s * 1000)
        frame = frames.move(node=home.id, url=url, version=view.version, deadline_ms=deadline_ms)
        session.send_frame(encode_text(frame))
        self.counts["told"] += 1

    def _time_over(self, deadline: _Deadline, now: float) -> None:
        session = deadline.session
        if session.conn.closed:
            session.moving = False
            self.counts["went"] += 1
        elif self._home(session.user) is None and not deadline.anyway:
            session.moving = False
            self.counts["stayed"] += 1
        elif session.going and deadline.number < DEADLINES:
            session.going = False
            self._deadlines.append(deadline._replace(at=now + self._deadline_s, number=deadline.number + 1))
        else:
            session.moving = False
            self._close(session)

    def _close(self, session: Session) -> None:
        self.counts["closed"] += 1
        view = self._history.current
        code = CloseCode.DRAINING if self.draining else CloseCode.MOVED
        session.conn.close(code, reason_text(self._spread_ms(), view.version.epoch if view else 0), "moved")

    def _spread_ms(self) -> int:
        """5 s for 1,000 sessions that leave together, less for fewer."""
        return int(self._spread_s * 1000 * min(1.0, (len(self._deadlines) + len(self._plan) + 1) / 1000))

    def _leaves(self, user: User) -> bool:
        return user in self._plan or any(session.moving for session in user.sessions)


def _slices(users: Iterable[User]) -> Iterator[list[User]]:
    """Those that have sessions, some at a time."""
    every = list(users)
    for start in range(0, len(every), SLICE):
        yield [user for user in every[start : start + SLICE] if user.sessions]
        gevent.sleep(0)
