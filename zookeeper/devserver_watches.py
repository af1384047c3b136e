"""One-shot watches of the development server."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .devserver_acl import Identity
from .devserver_protocol import EventType
from .devserver_replies import watch_event
from .devserver_tree import Event, Tree


class Peer(Protocol):
    """One connection, as the state sees it."""

    session_id: int
    identities: set[Identity]

    def send(self, packet: bytes) -> None: ...

    def finish(self) -> None:
        """Closes the connection once everything sent has left."""


@dataclass(slots=True)
class Watches:
    """One-shot watches; `exists` and `get` share one kind, as in the real server."""

    data: defaultdict[str, set[Peer]] = field(default_factory=lambda: defaultdict(set))
    children: defaultdict[str, set[Peer]] = field(default_factory=lambda: defaultdict(set))

    def fire(self, events: Iterable[Event]) -> None:
        for event, path in events:
            watchers: set[Peer] = set()
            if event != EventType.CHILD:
                watchers |= self.data.pop(path, set())
            if event in (EventType.CHILD, EventType.DELETED):
                watchers |= self.children.pop(path, set())
            for peer in watchers:
                peer.send(watch_event(event, path))

    def forget(self, peer: Peer) -> None:
        for kind in (self.data, self.children):
            for path in [path for path, peers in kind.items() if peer in peers]:
                kind[path].discard(peer)
                if not kind[path]:
                    del kind[path]

    def restore(
        self, peer: Peer, tree: Tree, seen: int, data: Sequence[str], exists: Sequence[str], children: Sequence[str]
    ) -> None:
        """SetWatches of a client that was away: what changed since zxid `seen` fires at once, the rest is set."""
        for path in data:
            node = tree.nodes.get(path)
            changed = EventType.DELETED if node is None else EventType.CHANGED if node.mzxid > seen else None
            _fire_or_set(self.data, path, peer, changed)
        for path in exists:
            _fire_or_set(self.data, path, peer, EventType.CREATED if path in tree.nodes else None)
        for path in children:
            node = tree.nodes.get(path)
            changed = EventType.DELETED if node is None else EventType.CHILD if node.pzxid > seen else None
            _fire_or_set(self.children, path, peer, changed)


def _fire_or_set(watches: defaultdict[str, set[Peer]], path: str, peer: Peer, event: EventType | None) -> None:
    if event is None:
        watches[path].add(peer)
    else:
        peer.send(watch_event(event, path))
