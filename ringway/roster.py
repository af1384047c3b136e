"""Which nodes there are, by whose word, and which of them somebody ought to know and does not. Pure; `doctor` asks.

A node that has lost its ZooKeeper session is listed nowhere, and is nevertheless alive with all its sessions. So nodes
are looked for in four places: the registrations, the ring, what the lookups remember of earlier rings, and Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .core.members import State

NOBODY: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Roster:
    """Nodes by id. `registered` and `members` are None where nobody could tell.

    `registered`, `members`, `gone`: their HTTP bases, by ZooKeeper, by the ring, by lookups whose ring they have left.
    `speaking`: those that have just written to Redis, and their state by their own word.
    """

    registered: Mapping[str, str] | None = None
    members: Mapping[str, str] | None = None
    gone: Mapping[str, str] = field(default_factory=dict)
    speaking: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Roster) -> Roster:
        """What either knows."""
        return Roster(
            _either(self.registered, other.registered), _either(self.members, other.members),
            {**self.gone, **other.gone}, {**self.speaking, **other.speaking},
        )  # fmt: skip

    def addresses(self) -> dict[str, str]:
        """HTTP bases by id of all nodes whose address is known: the newest one."""
        return {**self.gone, **(self.members or NOBODY), **(self.registered or NOBODY)}

    def listed(self, node: str) -> bool:
        """Whether it is expected to live: where it is only remembered it may be gone for good."""
        return node in (self.registered or NOBODY) or node in (self.members or NOBODY)

    def strangers(self) -> list[str]:
        """Nodes that live by what they write to Redis, and whose address nobody knows."""
        known = self.addresses()
        return sorted(node for node, state in self.speaking.items() if node not in known and state != State.DRAINING)

    def missing_from(self, node: str) -> str:
        """Where a live node should be listed and is not, in words; empty if nowhere."""
        places = {"registered in ZooKeeper": self.registered, "in the ring": self.members}
        missing = [f"not {place}" for place, nodes in places.items() if nodes is not None and node not in nodes]
        return " and ".join(missing)


def _either(one: Mapping[str, str] | None, other: Mapping[str, str] | None) -> Mapping[str, str] | None:
    if one is None or other is None:
        return other if one is None else one
    return {**one, **other}
