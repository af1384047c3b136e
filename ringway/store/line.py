"""Connections of one's own for calls where each microsecond counts: no pool to ask, nothing looked at before a call.

A pooled call of redis-py asks the kernel whether the connection is still good before it uses it, keeps statistics and
goes through several layers: a quarter of what a node does for a single message. Here the call itself finds out: on a
connection that was closed meanwhile it is tried once more, on a new one, as everywhere in ringway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .client import Client

Command = tuple[str | bytes | int, ...]


class Line:
    """Commands to a single Redis, in pipelines, for so many callers at a time as it has connections.

    Each connects at its first call.
    """

    def __init__(self, pool: BlockingConnectionPool, connections: int = 1) -> None:
        self._pool = pool
        self._free: deque[Any] = deque([None] * connections)  # None: not connected

    @classmethod
    def to(cls, client: Client, connections: int = 1) -> Line | None:
        """A line beside a client's connections; None where a pool has more to do than to keep connections.

        (Behind Sentinel it finds out who is master, on a Cluster each key has its server.)
        """
        pool = client.connection_pool if isinstance(client, redis.Redis) else None
        return cls(pool, connections) if type(pool) is BlockingConnectionPool else None

    def call(self, commands: Sequence[Command]) -> list[Any] | None:
        """The replies, in order, errors of single commands among them. None: as many calls are under way as it takes.

        Raises what redis-py raises when there is no connection, or no answer in time.
        """
        try:
            conn = self._free.pop()
        except IndexError:
            return None
        kept: Any = None
        try:
            replies, kept = self._call(conn, commands)
            return replies
        finally:
            self._free.append(kept)

    def _call(self, conn: Any, commands: Sequence[Command]) -> tuple[list[Any], Any]:
        if conn is not None:
            try:
                return _exchange(conn, commands), conn
            except RedisConnectionError:
                conn = None
        conn = self._pool.connection_class(**self._pool.connection_kwargs)
        return _exchange(conn, commands), conn

    def close(self) -> None:
        """Those that are in use meanwhile are for their callers to lose."""
        for conn in list(self._free):
            if conn is not None:
                conn.disconnect()


def _exchange(conn: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        conn.send_packed_command([b"".join(b"".join(conn.pack_command(*command)) for command in commands)])
        return [_reply(conn) for _ in commands]
    except BaseException:
        conn.disconnect()  # also when this greenlet is killed: what is still to come must not answer another call
        raise


def _reply(conn: Any) -> Any:
    try:
        return conn.read_response()
    except ResponseError as error:
        return error
