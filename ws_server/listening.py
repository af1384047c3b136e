"""The listening socket: accepts in bounded bites, and survives running out of descriptors."""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from _socket import socket as RawSocket
from collections.abc import Callable
from socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY
from socket import socket as Socket
from typing import Any

from .endpoint import Endpoint

log = logging.getLogger("ringway.ws_server.listening")

READ = 1
ACCEPTS = 64  # per wake-up, so that a flood of connects leaves room for those who are in
PAUSE_S = 0.25
LOG_EVERY_S = 10.0
SPARE_DESCRIPTORS = 64  # for Redis, ZooKeeper, logs, HTTP requests
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listening:
    """Calls `on_client(socket, peer)` with each accepted socket, non-blocking and without Nagle's delay."""

    def __init__(self, listener: Socket, endpoint: Endpoint, on_client: Callable[[RawSocket, str], None]) -> None:
        self._listener = listener
        self._endpoint = endpoint
        self._on_client = on_client
        # The plain descriptor: a socket object per client, only to take it apart again, costs as much as the accept.
        raw: Any = getattr(listener, "_sock", listener)
        self._accept: Callable[[], tuple[int, Any]] = raw._accept
        self._kind = (int(listener.family), int(listener.type), listener.proto)  # each access makes enum members
        self._watcher: Any = None
        self._reserve = -1
        self._logged_at = float("-inf")

    def start(self) -> None:
        """Accept from now on. The listener must be bound and listening."""
        if self._listener.family in (AF_INET, AF_INET6):
            self._listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # accepted sockets inherit it
        self._listener.setblocking(False)
        self._fill_reserve()
        self._check_descriptors()
        self._watcher = self._endpoint.loop.io(self._listener.fileno(), READ)
        self._watcher.start(self._on_acceptable)

    def stop(self) -> None:
        """Close the listening socket, so that new clients go elsewhere at once. May be called twice."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
            self._spend_reserve()
        self._listener.close()

    def on_due(self, now: float) -> None:
        """The heartbeat's call after a pause."""
        if self._watcher is not None:
            self._fill_reserve()
            self._watcher.start(self._on_acceptable)

    def _on_acceptable(self) -> None:
        for _ in range(ACCEPTS):
            try:
                descriptor, address = self._accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._failed(error)
                return
            self._begin(RawSocket(*self._kind, descriptor), address)
            if self._watcher is None:
                return

    def _begin(self, sock: RawSocket, address: Any) -> None:
        """Whatever goes wrong with one client is its end alone: gevent stops a watcher whose callback raises."""
        try:
            sock.setblocking(False)
            self._on_client(sock, f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix:0")
        except Exception as error:  # noqa: BLE001 - logged, and the client is closed
            self._count(error, "a client that was accepted could not be served")
            sock.close()

    def _count(self, error: Exception, what: str) -> None:
        number = error.errno if isinstance(error, OSError) else None
        name = errno.errorcode.get(number or 0, type(error).__name__)
        counters = self._endpoint.counters
        counters.accept_errors[name] += 1
        if time.monotonic() - self._logged_at > LOG_EVERY_S:
            self._logged_at = time.monotonic()
            trace = None if isinstance(error, OSError) else error
            log.error("%s (%s): %s; %d connections are open", what, name, error, counters.open, exc_info=trace)

    def _failed(self, error: OSError) -> None:
        """Out of descriptors: shed one client with the reserve, pause, and go on when others have left."""
        self._count(error, "accept failed")
        if error.errno in _EXHAUSTED:
            self._shed_one()
            self._watcher.stop()
            self._endpoint.heartbeat.schedule(self, PAUSE_S)

    def _shed_one(self) -> None:
        """A client in the backlog would wait for an answer that cannot come: close it, so that it tries elsewhere."""
        self._spend_reserve()
        try:
            descriptor, _ = self._accept()
            os.close(descriptor)
        except OSError as error:
            log.debug("nothing to shed: %s", error)
        self._fill_reserve()

    def _spend_reserve(self) -> None:
        reserve, self._reserve = self._reserve, -1  # its number may be somebody else's in a moment
        if reserve >= 0:
            os.close(reserve)

    def _fill_reserve(self) -> None:
        if self._reserve >= 0:
            return
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("no descriptor for the reserve; tried again after the next pause: %s", error)

    def _check_descriptors(self) -> None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self._endpoint.limits.connections + SPARE_DESCRIPTORS
        if allowed != resource.RLIM_INFINITY and allowed < wanted:
            log.warning("ulimit -n is %d, the connection limit needs %d; accepting pauses before it", allowed, wanted)
