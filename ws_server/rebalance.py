"""Which users have to move, in which order and how fast. Pure: the mover asks, and does it.

Only a join (or a weight) moves sessions; a leave never does. A node that is not on the ring itself, and is not being
drained, keeps what it has: it was cut off, and its sessions are healthy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum

from ringway.core.errors import NoActiveMember
from ringway.core.history import Change, RingView
from ringway.core.members import Member
from ringway.core.pacing import TokenBucket

from .sessions import User

WINDOW_S = 10.0  # changes are counted over this time
CHANGES = 3  # so many within the window, with moves left over from before, open the breaker
CALM_S = 5.0  # so long without a change closes it


class Policy(StrEnum):
    """What a join moves: the moved users, everybody, or nobody (until an operator asks)."""

    MOVED = "moved"
    ALL = "all"
    NONE = "none"


def new_home(user: User, view: RingView | None, *, me: str, draining: bool) -> Member | None:
    """The member that the user should be on instead of this node; None where it is to stay.

    A user that was placed here because its owner was down stays until the owner is back, which the ring does not tell.
    """
    if view is None or (me not in view.ring.weights and not draining):
        return None
    try:
        owner = view.ring.owner_at(user.position)
    except NoActiveMember:
        return None
    if owner == me or (user.away == owner and not draining):
        return None
    return view.member(owner)


def joined(change: Change) -> bool:
    """Whether the change brought a new member, or more points of an old one."""
    old = change.old.ring.weights if change.old else {}
    return any(count > old.get(node, 0) for node, count in change.new.ring.weights.items())


class Breaker:
    """Open while the ring changes faster than moves finish: sessions would be sent after a moving target."""

    def __init__(self) -> None:
        self._changes: deque[float] = deque(maxlen=CHANGES)
        self._open = False

    def changed(self, now: float, *, unfinished: bool) -> None:
        """The ring has changed; `unfinished`: moves of an earlier change are still to be done."""
        self._changes.append(now)
        if unfinished and len(self._changes) == CHANGES and now - self._changes[0] < WINDOW_S:
            self._open = True

    def is_open(self, now: float) -> bool:
        """Whether moves have to wait."""
        if self._open and now - self._changes[-1] >= CALM_S:
            self._open = False
        return self._open


class Plan:
    """The users still to be moved, in the order they were found, paced."""

    def __init__(self, *, share: float, least: float) -> None:
        """Args: share: fraction of the node's sessions that may move each second; least: sessions a second at least."""
        self._share, self._least = share, least
        self._bucket = TokenBucket(least, max(1.0, least / 5))
        self._users: dict[User, bool] = {}
        self.breaker = Breaker()

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[User]:
        return iter(self._users)

    def __contains__(self, user: User) -> bool:
        return user in self._users

    def hurry(self, within_s: float) -> None:
        """From now on at least so fast that all sessions are told within that many seconds."""
        self._share = max(self._share, 1.0 / within_s)

    def add(self, users: Iterable[User], *, anyway: bool = False) -> int:
        """Schedule users; `anyway`: even those that the ring leaves here. Returns how many are new."""
        before = len(self._users)
        for user in users:
            self._users[user] = anyway or self._users.get(user, False)
        return len(self._users) - before

    def drop(self, user: User) -> None:
        """The user is gone, or is to stay. One that is not scheduled is no error."""
        self._users.pop(user, None)

    def due(self, now: float, sessions: int, *, draining: bool = False) -> list[tuple[User, bool]]:
        """Users to move now, with their `anyway`. Args: now: seconds; sessions: how many this node has."""
        if not self._users or (self.breaker.is_open(now) and not draining):
            return []
        self._bucket.rate = max(self._least, self._share * sessions)
        self._bucket.burst = max(1.0, self._bucket.rate / 5)
        due: list[tuple[User, bool]] = []
        for user in list(self._users):
            if self._bucket.take(now, max(1, min(len(user.sessions), self._bucket.burst))) > 0.0:
                break
            due.append((user, self._users.pop(user)))
        return due
