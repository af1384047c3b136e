"""Readiness of many descriptors behind one gevent watcher.

Our own epoll set inside gevent's loop, rather than a libev watcher per connection: libev calls back in the reverse of
the kernel's order, which serves the first of one turn last in the next and doubles the 99th percentile; and a watcher
costs 200 bytes that a dictionary entry does not. Where there is no epoll, `WatcherPoller` does the same with watchers.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Protocol

from gevent.monkey import get_original

log = logging.getLogger("ringway.ws_server.poller")

NONE, READ, WRITE = 0, 1, 4  # EPOLLIN and EPOLLOUT
EVENTS_PER_TURN = 512  # then gevent's other watchers and greenlets get theirs


class Pollable(Protocol):
    """Owner of a descriptor. Callbacks run in the hub and must not block; a broken descriptor counts as readable."""

    def on_readable(self) -> None: ...
    def on_writable(self) -> None: ...


class Poller(Protocol):
    def watch(self, descriptor: int, owner: Pollable, events: int) -> None:
        """Begin, or change the owner or the events (READ | WRITE)."""

    def forget(self, descriptor: int) -> None:
        """Stop; to be called before the descriptor is closed."""

    def close(self) -> None: ...

    def __len__(self) -> int: ...


class EpollPoller:
    """One epoll set, itself watched by gevent's loop."""

    def __init__(self, loop: Any) -> None:
        # gevent's patching takes epoll out of `select`, as waiting in it would block the loop; we never wait in it.
        self._epoll = get_original("select", "epoll")()
        self._owners: dict[int, Pollable] = {}
        self._events: dict[int, int] = {}  # only of those who want something else than READ
        self._watcher = loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._on_ready)

    def __len__(self) -> int:
        return len(self._owners)

    def watch(self, descriptor: int, owner: Pollable, events: int) -> None:
        known = descriptor in self._owners
        self._owners[descriptor] = owner
        if not known:
            self._epoll.register(descriptor, events)
        elif self._events.get(descriptor, READ) != events:
            self._epoll.modify(descriptor, events)
        if events == READ:
            self._events.pop(descriptor, None)
        else:
            self._events[descriptor] = events

    def forget(self, descriptor: int) -> None:
        if self._owners.pop(descriptor, None) is not None:
            self._events.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()

    def _on_ready(self) -> None:
        owner_of = self._owners.get
        for descriptor, events in self._epoll.poll(0, EVENTS_PER_TURN):
            owner = owner_of(descriptor)
            if owner is None:  # forgotten by a callback of this turn
                continue
            try:
                if events & WRITE:
                    owner.on_writable()
                    if events == WRITE or owner_of(descriptor) is not owner:
                        continue
                owner.on_readable()
            except Exception:
                log.exception("callback of %r failed", owner)
                self.forget(descriptor)


class WatcherPoller:
    """The same with gevent's own watchers, for systems without epoll."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._watchers: dict[int, list[Any]] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(self, descriptor: int, owner: Pollable, events: int) -> None:
        self.forget(descriptor)
        watchers = []
        for wanted, bit, callback in ((READ, 1, owner.on_readable), (WRITE, 2, owner.on_writable)):
            if events & wanted:
                watcher = self._loop.io(descriptor, bit)
                watcher.start(callback)
                watchers.append(watcher)
        self._watchers[descriptor] = watchers

    def forget(self, descriptor: int) -> None:
        for watcher in self._watchers.pop(descriptor, ()):
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        for descriptor in list(self._watchers):
            self.forget(descriptor)


def make_poller(loop: Any) -> Poller:
    """The best poller for this system."""
    return EpollPoller(loop) if sys.platform == "linux" else WatcherPoller(loop)
