"""The options of `ringway node`: each a flag and a `RINGWAY_...` variable, read once."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ringway.core.errors import ConfigError
from ringway.options import (
    CALLABLE,
    FILE,
    HOST,
    PORT,
    WS_URL,
    Checked,
    Common,
    choice,
    count,
    number,
    option,
    switch,
    urls,
)
from ringway.store.limits import Limits as LogLimits

from .endpoint import Limits
from .rebalance import Policy
from .tls import TlsFiles

F = TypeVar("F", bound=Callable[..., Any])

NODE_ID = Checked(
    "id", "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit",
    lambda value: _matched(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value),
)  # fmt: skip
ROLES = Checked("roles", "must be words separated by commas", lambda value: _matched(r"[\w.:-]+(,[\w.:-]+)*", value))


def _matched(pattern: str, value: str) -> str:
    if re.fullmatch(pattern, value) is None:
        raise ValueError(value)
    return value


def _words(text: str | None) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a node is told. Times in seconds; `advertise` and `node_id` are None where they follow from the port."""

    common: Common
    node_id: str | None
    host: str
    port: int
    advertise: str | None
    app: str | None
    vnodes: int
    policy: str
    move_share: float
    move_least: float
    move_deadline: float
    move_spread: float
    drain_timeout: float
    max_sessions: int
    max_handshakes: int
    max_requests: int
    single_session: bool
    rate_limit: float | None
    publish_roles: str | None
    broadcast_roles: str | None
    queue_bytes: int
    message_bytes: int
    ping: float
    pong: float
    compress: bool
    origins: tuple[str, ...] | None
    log_cap: int
    log_ttl: int
    tls_cert: Path | None
    tls_key: Path | None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "RINGWAY_TLS_KEY" if self.tls_key is None else "RINGWAY_TLS_CERT"
            raise ConfigError(missing, "", "must be set too: TLS needs a certificate and its key")
        if self.pong >= self.ping:
            raise ConfigError("RINGWAY_PONG", self.pong, f"must be less than RINGWAY_PING ({self.ping:g} s)")

    @property
    def tls(self) -> TlsFiles | None:
        return TlsFiles(self.tls_cert, self.tls_key) if self.tls_cert and self.tls_key else None

    @property
    def limits(self) -> Limits:
        return Limits(
            message_bytes=self.message_bytes, queue_bytes=self.queue_bytes, connections=self.max_sessions,
            handshakes=self.max_handshakes, wsgi_requests=self.max_requests, ping_s=self.ping, pong_s=self.pong,
            deflate=self.compress, origins=frozenset(self.origins) if self.origins else None,
        )

    @property
    def log_limits(self) -> LogLimits:
        return LogLimits(self.log_cap, self.log_ttl)

    @property
    def publishers(self) -> frozenset[str]:
        """Roles; none: the members of a group."""
        return _words(self.publish_roles)

    @property
    def broadcasters(self) -> frozenset[str]:
        """Roles; none: nobody."""
        return _words(self.broadcast_roles)

    def id_for(self, port: int) -> str:
        """The node's id: the option, else host name and port, which stay the same across restarts of a fixed port."""
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-._")[:50] or "node"
        return self.node_id or f"{host}-{port}"

    def url_for(self, port: int) -> str:
        """Where clients connect: what is advertised, its path being /ws unless it says another."""
        if self.advertise is not None:
            path = "" if urlsplit(self.advertise).path.strip("/") else "/ws"
            return self.advertise.rstrip("/") + path
        return f"{'wss' if self.tls else 'ws'}://{self._reachable}:{port}/ws"

    def http_for(self, port: int) -> str:
        """Where the cluster's own parts reach the node."""
        return f"{'https' if self.tls else 'http'}://{self._reachable}:{port}"

    @property
    def _reachable(self) -> str:
        """An address for others: a node that listens everywhere is known by its host name."""
        if self.host in ("0.0.0.0", "::"):
            return socket.gethostname()
        return f"[{self.host}]" if ":" in self.host else self.host


_OPTIONS = (
    option("--node-id", type=NODE_ID, default=None, help="Stable id; another one moves all its users.",
           show_default="<host name>-<port>"),
    option("--host", type=HOST, default="127.0.0.1", help="Address to listen on."),
    option("--port", type=PORT, default="0", help="Port to listen on; 0 takes a free one."),
    option("--advertise", type=WS_URL, default=None, help="URL that clients get.",
           show_default="ws://<host>:<port>/ws"),
    option("--app", type=CALLABLE, default=None, help="Application: called with the node at start."),
    option("--vnodes", type=count(1, 4096), default="256", help="Virtual nodes: the node's weight."),
    option("--policy", type=choice(*Policy), default="moved", help="Whom a join moves: the moved users, all, or none."),
    option("--move-share", type=number(0.0001, 1), default="0.05", help="Share of sessions that may move each second."),
    option("--move-least", type=number(1, 100_000), default="50", help="Sessions that may move each second at least."),
    option("--move-deadline", type=number(0.1, 600, "seconds"), default="10", help="From the move frame to the close."),
    option("--move-spread", type=number(0, 600, "seconds"), default="5",
           help="Window over which 1,000 closed clients are asked to come back."),
    option("--drain-timeout", type=number(1, 3600, "seconds"), default="60", help="The longest that a drain takes."),
    option("--max-sessions", type=count(1, 10_000_000), default="50000", help="Connections; over it, 4100."),
    option("--max-handshakes", type=count(1, 100_000), default="2000", help="Handshakes under way at once."),
    option("--max-requests", type=count(1, 100_000), default="1000", help="HTTP requests at once; over it, 503."),
    switch("--single-session", help="One session a user: a newer one closes the older with 4009."),
    option("--rate-limit", type=number(0.1, 1_000_000, "messages a second"), default=None,
           help="Of one session; over it, 4102.", show_default="none"),
    option("--publish-roles", type=ROLES, default=None, help="Ticket roles that may publish to groups.",
           show_default="the group's members may"),
    option("--broadcast-roles", type=ROLES, default=None, help="Ticket roles that may send to all sessions at once.",
           show_default="nobody may"),
    option("--queue-bytes", type=count(65536, 1 << 30), default="1048576", help="Outgoing queue; over it, 4101."),
    option("--message-bytes", type=count(1024, 1 << 24), default="65536", help="Largest message; over it, 1009."),
    option("--ping", type=number(1, 3600, "seconds"), default="25", help="Between pings."),
    option("--pong", type=number(0.1, 3600, "seconds"), default="10", help="For the answer to a ping; then 4200."),
    switch("--compress", help="Negotiate permessage-deflate: processor time for bandwidth; keeps no memory."),
    option("--origins", type=urls("http", "https"), default=None, help="Origins of browsers that may connect.",
           show_default="any"),
    option("--log-cap", type=count(10, 1_000_000), default="1000", help="Messages kept for each user and group."),
    option("--log-ttl", type=count(60, 31_536_000), default="604800", help="Seconds after which a quiet log goes."),
    option("--tls-cert", type=FILE, default=None, help="Certificate with its chain (PEM); SIGHUP reads it again."),
    option("--tls-key", type=FILE, default=None, help="Its key (PEM)."),
)  # fmt: skip


def node_options(command: F) -> F:
    """Add the node's own options."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command
