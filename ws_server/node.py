"""A node, put together: what listens, what it knows of the cluster, and how it comes and goes.

    joining   registered in ZooKeeper, listening, not ready yet
    active    on the ring
    draining  off the ring; its sessions move, then it exits
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ringway.core.close_codes import CloseCode, reason_text
from ringway.core.errors import ConfigError, InvalidInput, Unavailable
from ringway.core.history import Change
from ringway.core.members import Member, State
from ringway.store.limits import SharedLimits
from ringway.store.memberships import ADDED, REMOVED
from ringway.store.node_stats import NodeStats
from ringway.store.notices import Control, decode
from ringway.store.softdown import SoftDownMarks
from ringway.zookeeper.probe import livez

from .app import Node
from .channels import Channel
from .config import Config
from .parts import Parts
from .redis_link import AWAY
from .status import figures

log = logging.getLogger(__name__)

SWEEP_S = 30.0
ZOOKEEPER_START_S = 3.0  # then the ring's mirror has to do until ZooKeeper is there
STATS_S = 2.0
RING_WAIT_S = 5.0  # for a ring without this node, when it drains
LINGER_S = 1.0  # after that ring, for clients whose route is older
GOODBYE_S = 3.0


class NodeServer(Parts):
    """One node process. `start`, then `wait`; `drain` and `stop` end it."""

    def __init__(self, config: Config) -> None:
        """As `Parts`."""
        self._ended = Event()
        self._ring_changed = Event()
        self._greenlets: list[Any] = []
        super().__init__(config)
        self._marks = SoftDownMarks(self.redis, self.keys)
        self._stats = NodeStats(self.redis, self.keys)
        self._limits = SharedLimits(self.redis, self.keys)

    # Life.

    def start(self) -> None:
        """Listen, register, and become active when ready. Raises ConfigError, InvalidInput (a duplicate id)."""
        if self.config.app is not None:
            load(self.config.app)(self.app)
        for part in (self.batcher, self.reader, self.away, self.groups):
            part.start()
        for channel in (self.keys.node_channel(self.id), self.keys.all_channel, self.keys.ring_channel):
            self.subscriber.subscribe(channel, lambda: None)
        self.subscriber.start()
        self.zk.start(ZOOKEEPER_START_S)
        self.rings.start()
        self.acceptor.start()
        self.registration.register()
        for run in (self.mover.run, self.mover.sweep, self.mover.watch_strays, self.here.run, self._sweep_often,
                    self._publish_stats):
            self._greenlets.append(gevent.spawn(_for_ever, run))
        self._greenlets.append(gevent.spawn(self._become_active))

    def wait(self) -> None:
        """Until the node has ended."""
        self._ended.wait()

    def drain(self) -> None:
        """Leave the ring, move all sessions, and end: within `drain_timeout`. Blocks; a second call does nothing."""
        if self.state is State.DRAINING:
            return
        log.info("draining: %d sessions", self.sessions.count)
        deadline = time.monotonic() + self.config.drain_timeout
        self.state = State.DRAINING
        self._ring_changed.clear()
        self._set_state(State.DRAINING)
        self.mover.drain(self._telling_s())
        self._leave_ring()
        while self.sessions.count and time.monotonic() < deadline:
            gevent.sleep(0.05)
        log.info("drained: %d sessions are left", self.sessions.count)
        self.stop()

    def stop(self) -> None:
        """Say goodbye to who is still here, and end. Blocks for a few seconds at most."""
        if self.gate.closing:
            return
        self.gate.closing = True
        self.registration.close()
        spread_ms = int(self.config.move_spread * 1000 * min(1.0, self.sessions.count / 1000))
        epoch = self.history.current.version.epoch if self.history.current else 0
        self.acceptor.close(GOODBYE_S, CloseCode.DRAINING, reason_text(spread_ms, epoch), "draining")
        gevent.killall(self._greenlets, timeout=1.0)
        self.here.close()
        self.rings.stop()
        self.zk.stop()
        for part in (self.subscriber, self.groups, self.away, self.reader, self.batcher, self.link):
            part.stop()
        self._ended.set()

    def _telling_s(self) -> float:
        """How long all sessions may take to be told, so that the last one's deadline comes before the drain's."""
        return max(1.0, (self.config.drain_timeout - self.config.move_deadline - RING_WAIT_S) * 0.6)

    def _leave_ring(self) -> None:
        """Wait for a ring without this node; if none comes (no ZooKeeper, or nobody else), do without."""
        until = time.monotonic() + RING_WAIT_S
        while self._on_the_ring() and (left := until - time.monotonic()) > 0:
            self._ring_changed.wait(left)
            self._ring_changed.clear()
        if self._on_the_ring():
            log.warning("no ring without this node has come: moving sessions to the next nodes all the same")
            self.mover.drain_without_ring()
        else:
            gevent.sleep(LINGER_S)

    def _on_the_ring(self) -> bool:
        view = self.history.current
        return view is not None and self.id in view.ring.weights

    def _become_active(self) -> None:
        """Active once Redis is subscribed to: before that, messages for users here would be late.

        And not while the ring cannot be read, which another key does: tickets could not be read either, and users
        would be sent here to be refused for good.
        """
        while not self.subscriber.connected:
            gevent.sleep(0.02)
        if self.history.current is None and not self.zk.connected:
            self.rings.read_mirror()
        while self.rings.blind:
            gevent.sleep(0.05)
        if self.state is State.JOINING:
            self.state = State.ACTIVE
            self._set_state(State.ACTIVE)

    def _set_state(self, state: State) -> None:
        try:
            self.registration.set_state(state)
        except InvalidInput as error:
            log.error("%s", error)
            gevent.spawn(self.stop)

    # What comes in.

    def _on_ring(self, change: Change) -> None:
        self.delivery.ring_changed(change)
        self.mover.ring_changed(change)
        self._ring_changed.set()

    def _on_notice(self, channel: bytes, data: bytes) -> None:
        if channel.decode() == self.keys.ring_channel:
            gevent.spawn(self.rings.read_mirror)
            return
        notice = decode(data)
        if isinstance(notice, Control):
            self._obey(notice)
        else:
            self.delivery.arrived(notice, data)

    def _obey(self, order: Control) -> None:
        """An operator's or a back end's order: drain, rebalance, who belongs to a group, to end sessions."""
        if order.op in (ADDED, REMOVED):
            self._members_changed(order)
            return
        codes = {"close": CloseCode.OPERATOR, "sign_out": CloseCode.SIGNED_OUT}
        log.info("order: %s %s", order.op, dict(order.args))
        if order.op == "drain":
            gevent.spawn(self.drain)
        elif order.op == "rebalance":
            gevent.spawn(self.mover.rebalance)
        elif order.op in codes:
            for session in self.app.sessions(str(order.args.get("uid", ""))):
                session.conn.close(codes[order.op], reason_text(), order.op)
        else:
            log.warning("an order that this version does not know: %s", order.op)

    def _members_changed(self, order: Control) -> None:
        change = self.groups.add_member if order.op == ADDED else self.groups.put_out
        for uid in order.args["uids"]:
            for session in self.app.sessions(uid):
                change(session, order.args["group"])

    # What goes on all the time.

    def sweep(self) -> None:
        """Compare all positions with the logs, and read what is missing. Blocks."""
        self.reader.sweep(self._channels())

    def _channels(self) -> list[Channel]:
        return [*(user.inbox for user in self.sessions.users.values()), *self.groups.channels]

    def _sweep_often(self) -> None:
        while True:
            gevent.sleep(SWEEP_S * random.uniform(0.8, 1.2))
            if self.link.up:
                self.sweep()

    def _publish_stats(self) -> None:
        told: dict[str, int] = {}
        while True:
            if self.link.up:
                try:
                    self._limits.put(self.config.log_limits)  # again and again: Redis may lose it
                    self._stats.publish(self.id, figures(self))
                    told = self._tell_moves(told)
                except AWAY as error:
                    self.link.lost(error)
            gevent.sleep(STATS_S)

    def _tell_moves(self, told: dict[str, int]) -> dict[str, int]:
        """Tell of moves if there were any since last time; gives the counts that are known now."""
        counts = dict(self.mover.counts)
        if counts != told:
            left = self.mover.planned + self.mover.leaving
            self._stats.tell({"t": "moves", "node": self.id, "left": left, **counts})
        return counts

    def _is_back(self, member: Member) -> bool:
        try:
            return member.id not in self._marks.marked() and livez(member.http)
        except Unavailable as error:
            self.link.lost(error)
            return False


def load(spec: str) -> Callable[[Node], object]:
    """The application's callable, from `module:callable`; modules in the working directory are found.

    Raises:
        ConfigError: no such module, or nothing callable of that name in it.
    """
    module, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError("RINGWAY_APP", spec, f"cannot be loaded: {error}") from error
    if not callable(found):
        raise ConfigError("RINGWAY_APP", spec, "must name something callable")
    loaded: Callable[[Node], object] = found
    return loaded


def _for_ever(run: Callable[[], object]) -> None:
    """Keep a loop going: an error in one of its turns is logged, not its end."""
    while True:
        try:
            run()
        except Exception:
            log.exception("%s failed; going on", getattr(run, "__qualname__", run))
        gevent.sleep(1.0)
