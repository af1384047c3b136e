"""Threads or greenlets: the one place that knows which.

The lookup service runs under threads, the node under gevent; the ZooKeeper part runs under either by taking tasks,
events and locks from kazoo's handler object. gevent is imported only when it is asked for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler

from ringway.core.errors import AccessDenied, ConfigError, Unavailable

log = logging.getLogger(__name__)


class Event(Protocol):
    def set(self) -> Any: ...
    def clear(self) -> Any: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Any: ...


class Runtime:
    """Tasks, events and locks of one kind. `timeouts` is what this kind raises when time runs out."""

    def __init__(self, handler: Any, timeouts: tuple[type[BaseException], ...], current: Callable[[], object]) -> None:
        self.handler = handler
        self.timeouts = timeouts
        self.current = current
        self._errors: tuple[type[BaseException], ...] = (Exception, *timeouts)

    def spawn(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run in a task of its own (a daemon thread or a greenlet); `.join(timeout)` waits for it."""
        return self.handler.spawn(function, *args)

    def event(self) -> Event:
        event: Event = self.handler.event_object()
        return event

    def lock(self) -> Any:
        """A re-entrant lock, for `with`."""
        return self.handler.rlock_object()

    def guard(self, function: Callable[[], object], logger: logging.Logger, what: str) -> bool:
        """Call a function at the bottom of a task, where an error has nobody to go to: log it, and go on.

        Timeouts are named because gevent's is a BaseException, which `except Exception` would let through to end
        the task (row 4 of the list in client.py's tests). Returns whether the call succeeded.
        """
        try:
            function()
        except (Unavailable, AccessDenied) as error:  # both are told elsewhere, once
            logger.debug("%s: %s", what, error)
            return False
        except self._errors:
            logger.exception("%s failed; going on", what)
            return False
        return True


def runtime(handler: str) -> Runtime:
    """The runtime named "threading" or "gevent". Raises ConfigError."""
    if handler == "threading":
        return Runtime(SequentialThreadingHandler(), (KazooTimeoutError,), threading.current_thread)
    if handler == "gevent":
        return _gevent()
    raise ConfigError("handler", handler, "must be threading or gevent")


def _gevent() -> Runtime:
    import gevent
    from gevent import monkey
    from kazoo.handlers.gevent import SequentialGeventHandler

    if not monkey.is_module_patched("socket"):
        # kazoo resolves names through the standard library (row 14).
        log.warning("gevent without monkey-patching: looking up ZooKeeper's host names will block all greenlets")
    return Runtime(SequentialGeventHandler(), (gevent.Timeout,), gevent.getcurrent)


class Loop:
    """A task that calls `step` again and again: when woken, and after as many seconds as `step` returned.

    Level-triggered: `step` looks at the state of the world and makes it right; however many wakes came since, it runs
    once. It is woken on every new connection of the session too. A step that raises is run again after `retry_s`.
    """

    def __init__(self, zk: Any, name: str, step: Callable[[], float], *, retry_s: float = 1.0) -> None:
        self._zk, self._name, self._step, self._retry_s = zk, name, step, retry_s
        self._event: Event = zk.runtime.event()
        self._stopping = False
        self._task: Any = None

    def start(self) -> None:
        self._zk.add_session_listener(self._on_session)
        self._task = self._zk.runtime.spawn(self._run)

    def wake(self, _event: object = None) -> None:
        """Have the step run soon. May be called from anywhere, kazoo's callbacks included: it only sets an event."""
        self._event.set()

    def stop(self) -> None:
        """End the task and wait for it; called from the step itself, it ends after that step."""
        self._stopping = True
        self._zk.remove_session_listener(self._on_session)
        self._event.set()
        if self._task is not None and self._zk.runtime.current() is not self._task:
            self._task.join(10.0)

    def _on_session(self, _session: int, _new: bool) -> None:
        self._event.set()

    def _run(self) -> None:
        while not self._stopping:
            self._delay = self._retry_s
            self._zk.runtime.guard(self._once, log, self._name)
            self._event.wait(self._delay)
            self._event.clear()

    def _once(self) -> None:
        self._delay = self._step()


class SingleFlight:
    """Many callers, one read: a call waits for a read that began after it, shared with all who came meanwhile."""

    def __init__(self, runtime: Runtime, read: Callable[[], object], what: str) -> None:
        self._runtime, self._read, self._what = runtime, read, what
        self._lock = runtime.lock()
        self._running = False
        self._next: _Flight | None = None

    def do(self, timeout_s: float) -> bool:
        """Returns whether a read that began after this call succeeded within `timeout_s` seconds."""
        with self._lock:
            flight = self._next = self._next or _Flight(self._runtime.event())
            if not self._running:
                self._running = True
                self._runtime.spawn(self._fly)
        flight.done.wait(timeout_s)
        return flight.ok

    def _fly(self) -> None:
        while True:
            with self._lock:
                flight, self._next = self._next, None
                if flight is None:
                    self._running = False
                    return
            flight.ok = self._runtime.guard(self._read, log, self._what)
            flight.done.set()


class _Flight:
    __slots__ = ("done", "ok")

    def __init__(self, done: Event) -> None:
        self.done = done
        self.ok = False
