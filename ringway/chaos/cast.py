"""Who talks to whom, and how much. Pure: every process of a run works out the same from the same load and name."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

TALKS_A_RATE = 8.0  # messages a second in one talk
TALK_MESSAGES = 10  # on average
SEVERAL = 3  # readers of a talk to several users
TO_SEVERAL = 0.1  # part of the talks to users
SECOND = "+2"  # ends the name of a user's second client, in the books alone


@dataclass(frozen=True, slots=True)
class Load:
    """How much: clients, messages a second to users and to groups, groups and their size, bytes of a body.

    `processes`: how many the clients are divided among; one alone is slower than the cluster that it is to measure.
    `two_clients`: part of the users that have two clients at the same time. `permanent`: part of the groups whose
    members belong to them for good, instead of asking for it on each connection.
    """

    sessions: int = 2000
    user_rate: float = 1000.0
    group_rate: float = 200.0
    groups: int = 100
    group_size: int = 5
    body_bytes: int = 64
    seed: int = 1
    processes: int = 4
    two_clients: float = 0.1
    permanent: float = 0.0


class Line(NamedTuple):
    """One message to be sent: by which client, to a user, several, or a group."""

    sender: str
    to: tuple[str, ...]
    group: bool


def user_of(client: str) -> str:
    return client.removesuffix(SECOND)


class Cast:
    """The users, their clients and the groups of a run. `part` is the clients of one process.

    Clients are called as their users are, second ones with SECOND behind it.
    """

    def __init__(self, load: Load, name: str) -> None:
        """Args: name: of this run, and of no other: the logs of an earlier one must not be taken for this one's."""
        chance = random.Random(load.seed)
        self.load = load
        users = max(1, round(load.sessions / (1 + load.two_clients)))
        self.uids = [f"{name}-u{i}" for i in range(users)]
        self.clients = [*self.uids, *(f"{uid}{SECOND}" for uid in self.uids[: load.sessions - users])]
        self.groups = {f"{name}-g{i}": chance.sample(self.uids, min(load.group_size, users))
                       for i in range(load.groups)}
        self.permanent = dict(list(self.groups.items())[: round(load.groups * load.permanent)])

    def part(self, number: int) -> list[str]:
        return self.clients[number :: self.load.processes]

    def readers(self) -> dict[str, list[str]]:
        """Channel -> which clients are owed its messages."""
        clients = self._clients_of()
        return {**{f"u:{uid}": found for uid, found in clients.items()},
                **{f"g:{group}": [client for uid in members for client in clients[uid]]
                   for group, members in self.groups.items()}}

    def asked(self) -> dict[str, list[str]]:
        """Client -> groups that it asks to be in."""
        return {client: [group for group in groups if group not in self.permanent]
                for client, groups in self.memberships().items()}

    def memberships(self) -> dict[str, list[str]]:
        """Client -> groups."""
        groups: dict[str, list[str]] = {uid: [] for uid in self.uids}
        for group, members in self.groups.items():
            for uid in members:
                groups[uid].append(group)
        return {client: groups[user_of(client)] for client in self.clients}

    def _clients_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {uid: [] for uid in self.uids}
        for client in self.clients:
            found[user_of(client)].append(client)
        return found


class Script:
    """What the users of one part say: several messages of one sender to one reader after each other, many at once.

    A single message to somebody at random would be next to never followed by another one that could overtake it.
    """

    def __init__(self, cast: Cast, number: int, chance: random.Random) -> None:
        self._chance = chance
        self._part = cast.part(number)
        self._uids = cast.uids
        mine = set(self._part)
        groups = {ch[2:]: [client for client in clients if client in mine]
                  for ch, clients in cast.readers().items() if ch.startswith("g:")}
        self._groups = [(group, members) for group, members in groups.items() if members]
        self.user_rate = cast.load.user_rate * len(self._part) / len(cast.clients)
        self.group_rate = cast.load.group_rate / cast.load.processes if self._groups else 0.0
        self._talks = {False: self._some(self.user_rate, group=False), True: self._some(self.group_rate, group=True)}

    def lines(self, count: int, *, group: bool) -> Iterator[Line]:
        """The next so many messages."""
        talks = self._talks[group]
        for _ in range(count):
            number = self._chance.randrange(len(talks))
            yield talks[number]
            if self._chance.random() < 1 / TALK_MESSAGES:
                talks[number] = self._new(group=group)

    def _some(self, rate: float, *, group: bool) -> list[Line]:
        return [self._new(group=group) for _ in range(max(1, int(rate / TALKS_A_RATE)))] if rate else []

    def _new(self, *, group: bool) -> Line:
        if group:
            name, members = self._chance.choice(self._groups)
            return Line(self._chance.choice(members), (name,), group=True)
        several = len(self._uids) >= SEVERAL and self._chance.random() < TO_SEVERAL
        to = self._chance.sample(self._uids, SEVERAL if several else 1)
        return Line(self._chance.choice(self._part), tuple(to), group=False)


def split(rates: Sequence[float], due: list[float], seconds: float) -> list[int]:
    """How many messages of each rate are to be sent now; `due` keeps the fractions for the next time."""
    whole = []
    for kind, rate in enumerate(rates):
        due[kind] += seconds * rate
        whole.append(int(due[kind]))
        due[kind] %= 1
    return whole
