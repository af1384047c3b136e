"""Readiness of many descriptors behind one gevent watcher.

Our own epoll set inside gevent's loop, rather than a libev watcher per connection: libev calls back in the reverse of
the kernel's order, which serves the first of one turn last in the next and doubles the 99th percentile; and a watcher
costs 200 bytes that a dictionary entry does not. Where there is no epoll, `WatcherPoller` does the same with watchers.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gevent.monkey import get_original

from . import fast

log = logging.getLogger("ringway.ws_server.poller")

NONE, READ, WRITE = 0, 1, 4  # EPOLLIN and EPOLLOUT
EVENTS_PER_TURN = 512  # then gevent's other watchers and greenlets get theirs


class Pollable(Protocol):
    """Owner of a descriptor. Callbacks run in the hub and must not block; a broken descriptor counts as readable."""

    def on_readable(self) -> None: ...
    def on_writable(self) -> None: ...
    def on_failed(self) -> None:
        """A callback raised, which is logged, and the descriptor is not watched any more: end."""


class Traffic(Protocol):
    """What a poller counts that reads and sends by itself."""

    bytes_in: int
    bytes_out: int


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
        self._owners: list[Pollable | None] = []  # by descriptor
        self._count = 0
        self._events: dict[int, int] = {}  # only of those who want something else than READ
        self._watcher = loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._on_ready)

    def __len__(self) -> int:
        return self._count

    def watch(self, descriptor: int, owner: Pollable, events: int) -> None:
        known = self._owner(descriptor) is not None
        if not known:
            self._epoll.register(descriptor, events)
            self._count += 1
            self._owners += [None] * (descriptor + 1 - len(self._owners))
        elif self._events.get(descriptor, READ) != events:
            self._epoll.modify(descriptor, events)
        self._owners[descriptor] = owner
        if events == READ:
            self._events.pop(descriptor, None)
        else:
            self._events[descriptor] = events

    def forget(self, descriptor: int) -> None:
        if self._owner(descriptor) is not None:
            self._owners[descriptor] = None
            self._count -= 1
            self._events.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()

    def _owner(self, descriptor: int) -> Pollable | None:
        return self._owners[descriptor] if 0 <= descriptor < len(self._owners) else None

    def _on_ready(self) -> None:
        self._serve(self._epoll.poll(0, EVENTS_PER_TURN))

    def _serve(self, ready: Iterable[tuple[int, int]]) -> None:
        owners = self._owners
        for descriptor, events in ready:
            owner = owners[descriptor]
            if owner is None:  # forgotten by a callback of this turn
                continue
            try:
                if events & WRITE:
                    owner.on_writable()
                    if events == WRITE or owners[descriptor] is not owner:
                        continue
                owner.on_readable()
            except Exception as error:  # noqa: BLE001 - the boundary to the owners; logged with the owner
                self._failed(descriptor, owner, error)

    def _failed(self, descriptor: int, owner: Pollable, error: Exception) -> None:
        log.error("callback of %r failed", owner, exc_info=error)
        if self._owner(descriptor) is owner:
            self.forget(descriptor)
            owner.on_failed()


class CompiledPoller(EpollPoller):
    """The same; connections over plain sockets are read, and their answers sent, by the compiled part (`_fast.c`).

    It calls `on_frames`, `on_unsent` and `on_broken` of a `Line` (connection.py), and comes back to `_other` for
    everything else.
    """

    def __init__(self, loop: Any, traffic: Traffic) -> None:
        super().__init__(loop)
        self._traffic = traffic

    def _on_ready(self) -> None:
        bytes_in, bytes_out = fast.compiled.turn(self._epoll.fileno(), self._owners, self._other, self._failed)
        self._traffic.bytes_in += bytes_in
        self._traffic.bytes_out += bytes_out

    def _other(self, descriptor: int, events: int) -> None:
        self._serve(((descriptor, events),))


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
                watcher.start(self._serve, descriptor, owner, callback)
                watchers.append(watcher)
        self._watchers[descriptor] = watchers

    def _serve(self, descriptor: int, owner: Pollable, callback: Callable[[], None]) -> None:
        watchers = self._watchers.get(descriptor)
        try:
            callback()
        except Exception as error:
            log.error("callback of %r failed", owner, exc_info=error)
            if self._watchers.get(descriptor) is watchers:
                self.forget(descriptor)
                owner.on_failed()

    def forget(self, descriptor: int) -> None:
        for watcher in self._watchers.pop(descriptor, ()):
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        for descriptor in list(self._watchers):
            self.forget(descriptor)


def make_poller(loop: Any, traffic: Traffic) -> Poller:
    """The best poller for this system."""
    if fast.compiled is not None:
        return CompiledPoller(loop, traffic)
    return EpollPoller(loop) if sys.platform == "linux" else WatcherPoller(loop)
