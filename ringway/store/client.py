"""One Redis client from one URL: single server, TLS, Cluster or Sentinel.

All clients speak bytes, have a time-out on every call and never retry a call that timed out: a caller that waits for
Redis waits `timeout_s`, not a multiple of it. A call on a connection that turns out to be closed is tried once more,
on a new connection; everything ringway writes is safe to repeat.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import BlockingConnectionPool, parse_url
from redis.exceptions import AskError, ClusterError, RedisClusterException, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ringway.core.errors import ConfigError, Unavailable, Unsettled

logger = logging.getLogger(__name__)

Client = redis.Redis | redis.RedisCluster

# What redis-py raises; RedisClusterException is no RedisError.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError)

OPTION = "RINGWAY_REDIS"
RULE = (
    "must be redis://host:port/db, rediss://host:port/db (TLS), redis+cluster://host:port,host:port "
    "(rediss+cluster:// for TLS) or redis+sentinel://host:port,host:port/master?db=0 (rediss+sentinel:// for TLS)"
)
RETRY_AFTER_S = 1.0
ASK_SENTINELS_S = 1.0
_POOL_SIZE = 50
_URL = re.compile(r"(rediss?)(?:\+(cluster|sentinel))?://(?:([^@/]*)@)?([^/?#]+)(?:/([^?#]*))?(?:\?([^#]*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s,@]+)(?::(\d{1,5}))?")
_DEFAULT_PORT = {None: 6379, "cluster": 6379, "sentinel": 26379}


def connect(url: str, *, timeout_s: float = 2.0) -> Client:
    """The client for `url`. A Cluster is asked for its slots here; the others connect at the first call.

    Args:
        url: see `RULE`. User and password go before the hosts (`redis://user:password@host`), redis-py's TLS options in
            the query (`?ssl_ca_certs=/path/ca.pem`), Sentinel's own password as `?sentinel_password=`.
        timeout_s: the most that connecting, or one call, waits for the socket.

    Raises:
        ConfigError: the URL breaks the rule.
        Unavailable: no node of the Cluster answers.
    """
    kind, hosts, path, kwargs = _parse(url)
    kwargs |= {
        "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "socket_keepalive": True, "protocol": 2,
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    if kind == "cluster":
        return _cluster(hosts, kwargs)
    if kind == "sentinel":
        return _sentinel(hosts, path, kwargs)
    host, port = hosts[0]
    kwargs |= {"host": host, "port": port, "max_connections": _POOL_SIZE, "timeout": timeout_s}
    # from_pool: the client's close() closes the connections too.
    return redis.Redis.from_pool(BlockingConnectionPool(**kwargs))  # type: ignore[no-untyped-call]


class WatchfulPool(SentinelConnectionPool):
    """Asks the sentinels once a second which server is the master.

    A replaced master that still lives takes writes for 8 s and more until a sentinel turns it into a replica
    (sentinel.c, sentinelRefreshInstanceInfo), and then loses them all. redis-py asks on new connections only.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._asked = time.monotonic()

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() - self._asked > ASK_SENTINELS_S:
            self._asked = time.monotonic()
            try:
                self.get_master_address()  # type: ignore[no-untyped-call]  # closes connections to another one
            except (RedisConnectionError, RedisTimeoutError) as error:
                logger.debug("no sentinel answers, staying with the master known: %s", error)
        return super().get_connection(*args, **kwargs)

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:  # close() of the client: those to the sentinels go too
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.connection_pool.disconnect()


@contextmanager
def redis_errors() -> Iterator[None]:
    """What redis-py raises, as Unavailable."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise unavailable(error) from error


def unavailable(error: BaseException) -> Unavailable:
    """The one translation of redis-py's errors."""
    kind = Unsettled if _slot_moves(error) else Unavailable
    return kind("redis", f"{type(error).__name__}: {error}"[:200], retry_after=RETRY_AFTER_S)


def _slot_moves(error: BaseException) -> bool:
    """Whether a Cluster says so of this slot, or redis-py was sent to and fro between two servers (ClusterError)."""
    return isinstance(error, AskError | TryAgainError) or type(error) is ClusterError


def masked(url: str) -> str:
    """The URL without user and password, for logs and errors."""
    return re.sub(r"//[^/]*@", "//***@", url)


def _parse(url: str) -> tuple[str | None, list[tuple[str, int]], str, dict[str, Any]]:
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError(OPTION, masked(url), RULE)
    scheme, kind, auth, netloc, path, query = found.groups()
    hosts = [_host(url, part, _DEFAULT_PORT[kind]) for part in netloc.split(",")]
    if (kind is None and len(hosts) > 1) or (kind == "sentinel") != bool(path and not path.isdigit()):
        raise ConfigError(OPTION, masked(url), RULE)
    if kind == "cluster" and path not in (None, "", "0"):
        raise ConfigError(OPTION, masked(url), "a Redis Cluster has database 0 only; " + RULE)
    database = path if kind is None and path else ""
    plain = f"{scheme}://{auth + '@' if auth else ''}redis/{database}?{query or ''}"
    try:
        kwargs: dict[str, Any] = dict(parse_url(plain))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(OPTION, masked(url), f"{error}; {RULE}") from None
    return kind, hosts, path or "", kwargs


def _host(url: str, text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[2] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConfigError(OPTION, masked(url), RULE)
    return found[1].strip("[]"), port


def _is_tls(kwargs: dict[str, Any]) -> bool:
    return kwargs.pop("connection_class", None) is not None


def _cluster(hosts: list[tuple[str, int]], kwargs: dict[str, Any]) -> redis.RedisCluster:
    ssl = _is_tls(kwargs)
    drop = {"host", "port", "db"}
    nodes = [ClusterNode(host, port) for host, port in hosts]  # type: ignore[no-untyped-call]
    with redis_errors():
        return redis.RedisCluster(startup_nodes=nodes, ssl=ssl, **{k: v for k, v in kwargs.items() if k not in drop})


def _sentinel(hosts: list[tuple[str, int]], master: str, kwargs: dict[str, Any]) -> redis.Redis:
    ssl = _is_tls(kwargs)
    own = {"password": kwargs.pop("sentinel_password", None), "username": kwargs.pop("sentinel_username", None)}
    shared = {k: v for k, v in kwargs.items() if k.startswith("socket_") or k in ("protocol", "retry")}
    tls = {k: v for k, v in kwargs.items() if k.startswith("ssl_")} | {"ssl": ssl}
    kwargs = {k: v for k, v in kwargs.items() if k not in ("host", "port")} | {"ssl": ssl}
    sentinel = Sentinel(hosts, sentinel_kwargs=own | shared | tls, **kwargs)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(master, connection_pool_class=WatchfulPool)  # type: ignore[no-untyped-call]
    return client
