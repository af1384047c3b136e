"""What ZooKeeper and Redis hold: the ring's document, and which nodes there are."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from kazoo.exceptions import KazooException, NoNodeError

from .core.errors import DocumentError, InvalidInput, Unavailable
from .core.keys import KeyRing
from .core.members import NodeRecord, RingDocument, Version
from .diagnosis import Told, View
from .roster import Roster
from .store.alive import speaking
from .store.client import connect
from .store.keys import Keys
from .store.ring_mirror import RingMirror
from .zookeeper.client import TlsOptions, ZooKeeper

PART = 0.8  # of the limit, for the connection: that there is none is to be said within it
GOODBYE_S = 0.3  # a server that is frozen takes no leave: then the session's end is not waited for


def ask_zookeeper(hosts: str, cluster: str, keys: KeyRing, files: Sequence[Path | None], limit_s: float) -> Told:
    """The ring, then the nodes' own records one by one: one of them that cannot be read hides nothing else."""
    ca, cert, key = (str(file) if file else None for file in files)
    zk = ZooKeeper(hosts, cluster=cluster, tls=TlsOptions(ca, cert, key) if ca else None)
    try:
        if not zk.start(PART * limit_s):
            return Told((View("zookeeper", problem=f"{hosts} cannot be reached"),))
        return _look(zk, keys)
    except (KazooException, Unavailable) as error:
        return Told((View("zookeeper", problem=f"{type(error).__name__}: {error}"),))
    finally:
        goodbye = threading.Thread(target=zk.stop, daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE_S)


def _look(zk: ZooKeeper, keys: KeyRing) -> Told:
    try:
        ring = _signed("zookeeper", zk.get(zk.path("ring"))[0], keys)
    except NoNodeError:
        ring = Told((View("zookeeper", problem=f"has no ring of cluster {zk.cluster!r}"),))
    registered, unreadable = _registered(zk)
    return Told((*ring.views, *unreadable), ring.roster | Roster(registered=registered))


def _registered(zk: ZooKeeper) -> tuple[dict[str, str], list[View]]:
    """HTTP bases by id of the nodes that are registered, in the ring or not; and records that nobody can read."""
    try:
        names = sorted(zk.children(zk.path("nodes")))
    except NoNodeError:  # nobody has ever registered
        names = []
    registered, unreadable = {}, []
    for name, found in zip(names, zk.get_many([zk.path("nodes", name) for name in names], [None] * len(names)),
                           strict=True):  # fmt: skip
        if found is None:  # it left between the two looks
            continue
        try:
            registered[name] = NodeRecord.parse(found[0]).http
        except InvalidInput as error:
            unreadable.append(View(f"zookeeper, nodes/{name}", problem=str(error)))
    return registered, unreadable


def ask_redis(url: str, cluster: str, keys: KeyRing, limit_s: float) -> Told:
    """The ring's copy, and the nodes that have just written there."""
    names = Keys(cluster)
    try:
        client = connect(url, timeout_s=PART * limit_s)
        data, nodes = RingMirror(client, names).load(), Roster(speaking=speaking(client, names))
    except Unavailable as error:
        return Told((View("redis", problem=str(error)),))
    if data is None:
        return Told((View("redis", problem=f"has no ring of cluster {cluster!r}"),), nodes)
    ring = _signed("redis", data, keys)
    return Told(ring.views, ring.roster | nodes)


def _signed(part: str, data: bytes, keys: KeyRing) -> Told:
    try:
        document = RingDocument.parse(data, keys)
    except DocumentError as error:
        problem = f"{error}; is RINGWAY_KEYS that of the cluster?"
        return Told((View(part, problem=problem, foreign=_claimed(data)),))
    members = {member.id: member.http for member in document.members}
    return Told((View(part, document.version, document.checksum),), Roster(members=members))


def _claimed(data: bytes) -> Version | None:
    """The version that a document says it has, whoever signed it."""
    try:
        document = json.loads(data)
        return Version(int(document["gen"]), int(document["epoch"]))
    except (ValueError, TypeError, KeyError):
        return None
