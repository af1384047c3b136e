"""One ZooKeeper session, supervised.

kazoo keeps a connection alive well, and has traps that its documentation does not name; each was measured (the tests in
`tests/zookeeper/test_client.py` carry the row numbers of that list). What this class adds:

- The state listener, which runs inside kazoo's connection loop, only notes and wakes. One worker does all the rest:
  it compares the session id on every CONNECTED (a server that forgets sessions gives a new one without LOST), tells the
  listeners, lets a client go back to a server that has less than it has seen (wiped, or restored from old), and
  restarts one that is stuck although a server can be reached.
- With a digest, what strangers could write is closed on every connection (access.py).
- Calls, in calls.py, fail at once while there is no connection.

Works under threads (handler "threading") and under gevent (handler "gevent", imported only when asked for).
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from kazoo.exceptions import KazooException, NoAuthError, NodeExistsError
from kazoo.protocol.states import KazooState

from ringway.core.errors import ConfigError

from .access import ROOT, Access, root_acl
from .calls import SERVICE, Calls, Watch
from .kazoo_client import TlsOptions, kazoo_client
from .runtime import Runtime, runtime

__all__ = ["SERVICE", "SessionListener", "TlsOptions", "Watch", "ZooKeeper"]

log = logging.getLogger(__name__)

# The session timeout is the time after which a dead node's users move at the latest; a stall of the process longer
# than it loses the session (row 11).
TIMEOUT_S = 10.0
ACCESS_RECHECK_S = 60.0  # a process without the digest may have made something open meanwhile
# A server whose data was wiped, or is old, refuses a client that has seen a later zxid, for ever ("client must try
# another server", python-zk/kazoo#42). Without a connection for so long, the client says no more what it has seen: then
# the server says itself whether it knows the session. It may now be a follower that lags; what is old in its answers is
# seen by the ring's (gen, epoch), as for any process that has just started.
FORGET_ZXID_S = 1.0
# When to suspect that servers refuse this session and would grant a new one; and how long that must have been so. The
# grace must outlast kazoo's way through all hosts, or a server's return would cost a session that it still knows.
SUSPECT_AFTER_TIMEOUTS = 2.0
GRACE_MIN_S = 3.0
TRIAL_S = 2.0
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

EVENTS = ("connections", "sessions", "restarts")

SessionListener = Callable[[int, bool], object]


class ZooKeeper(Calls):
    """A supervised session to ZooKeeper, and the cluster's paths in it.

    Args:
        hosts: `host:port,host:port`.
        cluster: the name under /ringway.
        timeout_s: the session timeout asked for, in seconds; the server may clamp it.
        handler: "threading" or "gevent".
        tls: files for TLS, or None for plain TCP.
        digest: `user:password`; then what is created here can be written by that user only, and read by all.

    Attributes:
        counts: how often each of EVENTS happened: a connection, a new session, a new start of a refused client.
    """

    def __init__(
        self,
        hosts: str,
        *,
        cluster: str = "default",
        timeout_s: float = TIMEOUT_S,
        handler: str = "threading",
        tls: TlsOptions | None = None,
        digest: str | None = None,
    ) -> None:
        if not _CLUSTER.fullmatch(cluster):
            rule = "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit"
            raise ConfigError("RINGWAY_CLUSTER", cluster, rule)
        self.hosts, self.cluster, self.timeout_s = hosts, cluster, timeout_s
        self._handler = handler
        self.runtime: Runtime = runtime(handler)
        self.counts: Counter[str] = Counter()
        self._new_client = partial(kazoo_client, hosts, timeout_s, tls=tls, digest=digest)
        self.access = Access(digest, cluster)
        super().__init__(self._new_client(self.runtime), self.access.denied)
        self._root_acl = root_acl(digest) if digest else None
        self._access_due = 0.0
        self.client.add_listener(self._note)
        self._listeners: list[SessionListener] = []
        self._wake = self.runtime.event()
        self._done = self.runtime.event()
        self._task: Any = None
        self._stopping = False
        self._connections = self._announced = 0
        self._session: int | None = None
        self._away_since: float | None = time.monotonic()
        self._refused_since: float | None = None

    # --- life

    def start(self, timeout_s: float = 15.0) -> bool:
        """Connect, and stay connected until `stop`.

        Returns:
            Whether there is a connection within `timeout_s` seconds. False is not an end: it goes on trying.
        """
        if self._task is not None:
            raise RuntimeError("already started; make a new ZooKeeper to start again")
        self._away_since = time.monotonic()
        self._task = self.runtime.spawn(self._supervise)
        live = self.client.start_async()
        live.wait(timeout_s)
        return self.connected

    def stop(self) -> None:
        """End the session, so that its ephemeral znodes vanish at once. Safe to call from a listener, and twice.

        The worker does it: kazoo's own stop() deadlocks when called from a callback (row 6).
        """
        self._stopping = True
        self._wake.set()
        if self._task is not None and self.runtime.current() is not self._task:
            self._done.wait(self.timeout_s + 5.0)

    # --- state

    @property
    def session_id(self) -> int | None:
        """The session's id while connected."""
        client_id = self.client.client_id
        return client_id[0] if client_id else None

    @property
    def problem(self) -> str:
        """What is wrong with who may write our znodes, in one line; "" where nothing is."""
        return self.access.problem(time.monotonic())

    def disconnected_for(self, now: float) -> float:
        """Seconds without a connection, by the monotonic clock; 0.0 while connected."""
        since = self._away_since
        return 0.0 if since is None else max(0.0, now - since)

    def add_session_listener(self, listener: SessionListener) -> None:
        """Have `listener(session_id, new)` called on every CONNECTED, in the supervisor's worker.

        `new` is True when the id differs from the last one: then all ephemeral znodes and all watches are gone.
        """
        self._listeners.append(listener)

    def remove_session_listener(self, listener: SessionListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def path(self, *parts: str) -> str:
        """`/ringway/<cluster>/<parts...>`"""
        return "/".join((ROOT, self.cluster, *parts))

    def ensure_path(self, path: str) -> None:
        """Create a znode and those above it where they are missing. Raises Unavailable."""
        if self._root_acl:
            with suppress(NodeExistsError, NoAuthError):  # whether it matters, the next call will say
                self.ask(lambda client: client.create_async(ROOT, acl=self._root_acl))
        super().ensure_path(path)

    # --- supervision

    def _note(self, state: str) -> None:
        """kazoo's listener. It runs inside the connection loop, where any call would deadlock (row 5)."""
        if state == KazooState.CONNECTED:
            self._connections += 1
            self._away_since = None
        elif self._away_since is None:
            self._away_since = time.monotonic()
        self._wake.set()

    def _supervise(self) -> None:
        while not self._stopping:
            self._wake.wait(self.timeout_s / 3.0 if self.connected else min(self.timeout_s / 3.0, FORGET_ZXID_S))
            self._wake.clear()
            self.runtime.guard(self._check, log, "supervision of the ZooKeeper session")
        self.runtime.guard(self._close, log, "closing the ZooKeeper session")
        self._done.set()

    def _check(self) -> None:
        if not self.connected:
            self._help(time.monotonic())
            return
        self._refused_since = None
        new = self._connections != self._announced
        if new or time.monotonic() >= self._access_due:
            self._look_at_access()
        if new:
            self._announced = self._connections
            self._announce()

    def _help(self, now: float) -> None:
        """Without a connection: see that it is not for a reason of ours."""
        if self.disconnected_for(now) >= FORGET_ZXID_S:
            self.client.last_zxid = 0
        if not self._stopping and self._stuck(now):
            self._restart()

    def _look_at_access(self) -> None:
        self._access_due = time.monotonic() + ACCESS_RECHECK_S
        self.runtime.guard(partial(self.access.check, self), log, "looking at who may write our znodes")

    def _announce(self) -> None:
        session = self.session_id
        if session is None:
            return  # lost again meanwhile; the next CONNECTED tells
        new, self._session = session != self._session, session
        self.counts["connections"] += 1
        self.counts["sessions"] += new
        log.info("connected to ZooKeeper, session %016x%s", session & (1 << 64) - 1, " (new)" if new else "")
        for listener in list(self._listeners):
            self.runtime.guard(partial(listener, session, new), log, "a session listener")

    def _stuck(self, now: float) -> bool:
        """Whether to start over: servers refuse this session, and would grant a new one.

        An outage or a lost quorum looks the same from here, but the session may survive it; a trial tells them apart,
        because then nobody is granted a session.
        """
        if self.disconnected_for(now) < SUSPECT_AFTER_TIMEOUTS * self.timeout_s or not self._trial():
            self._refused_since = None
            return False
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since >= max(self.timeout_s, GRACE_MIN_S)

    def _trial(self) -> bool:
        """Whether some server grants a new session."""
        client = self._new_client(runtime(self._handler))
        try:
            client.start_async().wait(TRIAL_S)
            return bool(client.connected)
        finally:
            client.stop()
            client.close()

    def _restart(self) -> None:
        log.warning("ZooKeeper has refused the session for %.0f s and grants new ones: starting a new one",
                    self.disconnected_for(time.monotonic()))
        self._refused_since = None
        self.counts["restarts"] += 1
        try:
            self.client.stop()
        except KazooException as error:
            log.warning("the old ZooKeeper connection did not stop cleanly: %s", error)
        self.client.forget_requests()
        self.client.start_async()

    def _close(self) -> None:
        self.client.stop()
        self.client.close()
