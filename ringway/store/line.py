"""Connections of one's own for calls where each microsecond counts: no pool to ask, nothing looked at before a call.

A pooled call of redis-py asks the kernel whether the connection is still good before it uses it, keeps statistics and
goes through several layers: a quarter of what a node does for a single message. Here the call itself finds out: on a
connection that was closed meanwhile it is tried once more, on a new one, as everywhere in ringway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import redis
from hiredis import pack_command
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

    def call(self, commands: Iterable[Command], take: Callable[[Any], object]) -> bool:
        """Have `take` called with each reply, in order, once it is there; errors of single commands are among them.

        Each command is made and sent while those before it are with Redis. `take` must not wait.
        False: nothing was done, since as many calls are under way as there are connections.

        Raises what redis-py raises when there is no connection, or no answer in time.
        """
        try:
            conn = self._free.pop()
        except IndexError:
            return False
        kept: Any = None
        try:
            kept = self._call(conn, iter(commands), take)
        finally:
            self._free.append(kept)
        return True

    def _call(self, conn: Any, commands: Iterator[Command], take: Callable[[Any], object]) -> Any:
        """Returns the connection that answered."""
        open_ones: deque[Command] = deque()
        if conn is not None:
            try:
                _exchange(conn, commands, open_ones, take)
                return conn
            except RedisConnectionError:
                commands = chain(tuple(open_ones), commands)
                open_ones.clear()
        conn = self._pool.connection_class(**self._pool.connection_kwargs)
        _exchange(conn, commands, open_ones, take)
        return conn

    def close(self) -> None:
        """Those that are in use meanwhile are for their callers to lose."""
        for conn in list(self._free):
            if conn is not None:
                conn.disconnect()


def _exchange(conn: Any, commands: Iterator[Command], open_ones: deque[Command], take: Callable[[Any], object]) -> None:
    """Args: open_ones: gets the commands that are sent and have no reply yet."""
    try:
        for command in commands:
            open_ones.append(command)
            conn.send_packed_command([pack_command(command)])  # type: ignore[arg-type]  # typed as a tuple of one
        while open_ones:
            reply = _reply(conn)
            open_ones.popleft()
            take(reply)
    except BaseException:
        conn.disconnect()  # also when this greenlet is killed: what is still to come must not answer another call
        raise


def _reply(conn: Any) -> Any:
    try:
        return conn.read_response()
    except ResponseError as error:
        return error
