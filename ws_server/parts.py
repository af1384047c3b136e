"""What a node is made of: every part once, joined by hand, in the order in which they need each other."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from secrets import token_hex

import gevent
import orjson

from ringway.core.hashing import hashing
from ringway.core.history import Change, RingHistory
from ringway.core.members import Member, NodeRecord, State
from ringway.listen import cannot_listen
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.line import Line
from ringway.store.log import MessageLog
from ringway.store.memberships import Memberships
from ringway.store.presence import Presence
from ringway.store.ring_mirror import RingMirror
from ringway.store.softdown import AwayRecords
from ringway.zookeeper.client import TlsOptions, ZooKeeper
from ringway.zookeeper.membership import NodeRegistration

from .acceptor import Acceptor
from .app import Node
from .away import Away
from .batcher import Batcher
from .burst import Burst
from .config import Config
from .delivery import Delivery
from .dispatch import Dispatch
from .gate import Gate, Place
from .groups import Groups
from .here import Here
from .hooks import Hooks
from .http import flask_app, liveness
from .log_reader import ARRIVAL_BATCHES, LogReader
from .mover import Mover
from .rebalance import Plan, Policy
from .redis_link import RedisLink
from .rings import Rings
from .sessions import Sessions
from .sock import Sock
from .subscriber import Subscriber

BACKLOG = 4096


class Parts(ABC):
    """All parts of a node, not started. What they report to is left to the subclass."""

    def __init__(self, config: Config) -> None:
        """Binds the port. Raises ConfigError where that, or a part's option, does not work."""
        self.config = config
        self.state = State.JOINING
        self.boot_id = token_hex(8)
        self._listener = _listen(config.host, config.port)
        port = self._listener.getsockname()[1]
        self.id, self.url, self.http = config.id_for(port), config.url_for(port), config.http_for(port)
        self._build_shared()
        self._build_messages()
        self._build_sessions()
        self._build_application()

    @abstractmethod
    def stop(self) -> None: ...
    @abstractmethod
    def sweep(self) -> None: ...
    @abstractmethod
    def _on_ring(self, change: Change) -> None: ...
    @abstractmethod
    def _on_notice(self, channel: bytes, data: bytes) -> None: ...
    @abstractmethod
    def _is_back(self, member: Member) -> bool: ...

    def _build_shared(self) -> None:
        """What the node has in common with the rest of the cluster: Redis, ZooKeeper, the ring."""
        config, common = self.config, self.config.common
        self.keys = Keys(common.cluster)
        self.redis = connect(common.redis)
        self.link = RedisLink(self.redis.ping)
        self.history = RingHistory(hashing(common.alg, common.hash_key.encode() if common.hash_key else None))
        self.zk = _zookeeper(config)
        self.rings = Rings(self.history, self.zk, RingMirror(self.redis, self.keys), common.keys, self._on_ring)
        record = NodeRecord(self.id, self.url, self.http, config.vnodes, State.JOINING, self.boot_id)
        self.registration = NodeRegistration(self.zk, record, on_duplicate=lambda _: self.stop())

    def _build_messages(self) -> None:
        line = Line.to(self.redis, connections=1 + ARRIVAL_BATCHES)  # one for appends
        messages = MessageLog(self.redis, self.keys, limits=self.config.log_limits, line=line)
        self.sessions = Sessions(self.history.hashing.key)
        self.burst = Burst()
        self.batcher = Batcher(messages, self.redis, self.keys, self.link, self.burst)
        self.reader = LogReader(messages, self.redis, self.keys, self.link)
        records = AwayRecords(self.redis, self.keys)
        self.away = Away(self.id, records, self.keys, self.link, self.batcher.publish)
        self.delivery = Delivery(self.id, self.keys, self.history, self.sessions, self.batcher, self.reader, self.away)
        messages.on_put_back = self.delivery.put_back
        # What Redis took while its answers were lost: no subscription need have broken for that.
        self.link.on_back(lambda: gevent.spawn(self.sweep))
        self.subscriber = Subscriber(
            self.redis, self.link, self.burst, on_notice=self._on_notice, on_connected=self.sweep
        )
        self.memberships = Memberships(messages)
        self.groups = Groups(self.delivery, self.subscriber, self.reader, self.memberships, self.keys, self.link)

    def _build_sessions(self) -> None:
        config = self.config
        self.hooks = Hooks()
        self.dispatch = Dispatch(
            self.delivery, self.groups, self.batcher, self.hooks,
            rate=config.rate_limit, publish_roles=config.publishers, broadcast_roles=config.broadcasters,
            clock=time.monotonic,
        )  # fmt: skip
        presence = Presence(self.redis, self.keys, self.id, self.boot_id)
        self.here = Here(presence, self.sessions, self.hooks, self.link)
        self.gate = Gate(
            Place(self.id, self.url, config.common.keys, config.ping, config.rate_limit), self.history, self.sessions,
            self.dispatch,
            self.reader, self.groups, self.hooks, refresh=self.rings.refresh, single=config.single_session,
            on_first=self.here.came, on_last=self.here.went,
        )  # fmt: skip
        self.mover = Mover(
            self.id, self.history, self.sessions, self.gate, self.away, self.reader,
            Plan(share=config.move_share, least=config.move_least), policy=Policy(config.policy),
            deadline_s=config.move_deadline, spread_s=config.move_spread, is_back=self._is_back,
        )  # fmt: skip
        self.gate.on_away.append(self.mover.placed_away)
        self.gate.on_gone += [self.mover.gone, lambda _: self.batcher.session_over()]

    def _build_application(self) -> None:
        config = self.config
        self.flask = flask_app(self)
        self.sock = Sock(self.flask)
        self.app = Node(
            self.id, self.hooks, self.sessions, self.delivery, self.groups, self.memberships, self.flask, self.sock
        )
        self.acceptor = Acceptor(
            self._listener, handler=self.gate, wsgi_app=self.flask, limits=config.limits, tls=config.tls,
            alive=lambda: orjson.dumps(liveness(self)), burst=self.burst,
        )  # fmt: skip


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    return listener


def _zookeeper(config: Config) -> ZooKeeper:
    common = config.common
    tls = None
    if common.zookeeper_ca is not None:
        cert, key = (str(path) if path else None for path in (common.zookeeper_cert, common.zookeeper_key))
        tls = TlsOptions(str(common.zookeeper_ca), cert, key)
    return ZooKeeper(common.zookeeper, cluster=common.cluster, timeout_s=common.zookeeper_timeout, handler="gevent",
                     tls=tls, digest=common.zookeeper_digest)
