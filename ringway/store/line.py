"""A connection of one's own for calls where each microsecond counts: no pool to ask, nothing looked at before a call.

A pooled call of redis-py asks the kernel whether the connection is still good before it uses it, keeps statistics and
goes through several layers: a quarter of what a node does for a single message. Here the call itself finds out: on a
connection that was closed meanwhile it is tried once more, on a new one, as everywhere in ringway.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis
from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .client import Client

Command = tuple[str | bytes | int, ...]


class Line:
    """Commands to a single Redis, in pipelines, one caller at a time. It connects at the first call."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._conn: Any = None
        self._busy = threading.Lock()

    @classmethod
    def to(cls, client: Client) -> Line | None:
        """A line beside a client's connections; None where a pool has more to do than to keep connections.

        (Behind Sentinel it finds out who is master, on a Cluster each key has its server.)
        """
        pool = client.connection_pool if isinstance(client, redis.Redis) else None
        return cls(pool) if type(pool) is BlockingConnectionPool else None

    def call(self, commands: Sequence[Command]) -> list[Any] | None:
        """The replies, in order, errors of single commands among them. None: another call is under way.

        Raises what redis-py raises when there is no connection, or no answer in time.
        """
        if not self._busy.acquire(blocking=False):
            return None
        try:
            return self._call(commands)
        finally:
            self._busy.release()

    def _call(self, commands: Sequence[Command]) -> list[Any]:
        fresh = self._conn is None
        try:
            return self._exchange(commands)
        except RedisConnectionError:
            if fresh:
                raise
        return self._exchange(commands)

    def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.disconnect()

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        conn = self._conn
        try:
            if conn is None:
                conn = self._conn = self._pool.connection_class(**self._pool.connection_kwargs)
                conn.connect()
            conn.send_packed_command([b"".join(b"".join(conn.pack_command(*command)) for command in commands)])
            return [_reply(conn) for _ in commands]
        except BaseException:
            self.close()  # also when this greenlet is killed: what is still to come must not answer another call
            raise


def _reply(conn: Any) -> Any:
    try:
        return conn.read_response()
    except ResponseError as error:
        return error
