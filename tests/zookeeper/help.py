"""What the ZooKeeper tests share: sessions that are always stopped, records, signed documents."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, NodeRecord, RingDocument, State, Version
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.devserver import DevServer

KEYS = KeyRing.parse(DEVELOPMENT_KEYS)
ALG = "xxh64-v1"
TIMEOUT_S = 2.0  # the test servers grant sessions from 1 s up


def new_cluster() -> str:
    """A cluster name of its own, so that tests can share a server."""
    return f"t{uuid.uuid4().hex[:10]}"


@contextmanager
def session(
    address: str, cluster: str = "", *, timeout_s: float = TIMEOUT_S, digest: str | None = None
) -> Iterator[ZooKeeper]:
    """A connected session under threads."""
    zk = ZooKeeper(address, cluster=cluster or new_cluster(), timeout_s=timeout_s, digest=digest)
    try:
        assert zk.start(15.0), f"no session at {address}"
        yield zk
    finally:
        zk.stop()


@contextmanager
def devserver() -> Iterator[DevServer]:
    server = DevServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def record(node_id: str = "n1", *, state: State = State.ACTIVE, vnodes: int = 64, boot: str = "b1") -> NodeRecord:
    return NodeRecord(node_id, f"ws://{node_id}.test/ws", f"http://{node_id}.test", vnodes, state, boot)


def member(node_id: str, *, state: State = State.ACTIVE, vnodes: int = 64) -> Member:
    return record(node_id, state=state, vnodes=vnodes).member()


def document(gen: int, epoch: int, members: Iterable[Member] = (), keys: KeyRing = KEYS) -> RingDocument:
    return RingDocument.sign(version=Version(gen, epoch), alg=ALG, members=members or [member("n1")], keys=keys)


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.monotonic()
    function()
    return time.monotonic() - began
