"""`ringway doctor`: asks each part which ring it sees; `diagnosis` says who disagrees."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from .core.errors import DocumentError, InvalidInput, Unavailable
from .core.keys import KeyRing
from .core.members import NodeRecord, RingDocument, Version
from .diagnosis import View, diagnose, why_dropped
from .zookeeper.probe import ANY_CERTIFICATE

if TYPE_CHECKING:
    from .zookeeper.client import ZooKeeper

TIMEOUT_S = 3.0  # for each part; one that is frozen answers never
SETTLE_S = 1.5  # a ring that is just being passed on is no disagreement: who differs must differ for so long


@dataclass(frozen=True, slots=True)
class Servers:
    """Where to look. `zookeeper` and `redis` are None where only the lookups can be asked."""

    lookups: Sequence[str]
    zookeeper: str | None
    redis: str | None
    cluster: str
    keys: KeyRing
    zookeeper_ca: Path | None = None
    zookeeper_cert: Path | None = None
    zookeeper_key: Path | None = None


def examine(servers: Servers) -> list[View]:
    """Ask every part; if any disagrees, ask all again a moment later, and that counts."""
    views = _examine(servers)
    if diagnose(views):
        time.sleep(SETTLE_S)
        views = _examine(servers)
    return views


def _examine(servers: Servers) -> list[View]:
    """The nodes are those that the answers name."""
    nodes: dict[str, str] = {}
    views = []
    if servers.zookeeper:
        views.append(_zookeeper_view(servers.zookeeper, servers, nodes))
    if servers.redis:
        views.append(_redis_view(servers.redis, servers))
    for url in servers.lookups:
        views += _lookup_views(f"lookup {url}", url, nodes)
    return views + [_node_view(f"node {node_id}", f"{http}/readyz") for node_id, http in sorted(nodes.items())]


def _signed(part: str, data: bytes, keys: KeyRing) -> View:
    try:
        document = RingDocument.parse(data, keys)
    except DocumentError as error:
        return View(part, problem=f"{error}; is RINGWAY_KEYS that of the cluster?", foreign=_claimed(data))
    return View(part, document.version, document.checksum)


def _claimed(data: bytes) -> Version | None:
    """The version that a document says it has, whoever signed it."""
    try:
        document = json.loads(data)
        return Version(int(document["gen"]), int(document["epoch"]))
    except (ValueError, TypeError, KeyError):
        return None


def _zookeeper_view(hosts: str, servers: Servers, nodes: dict[str, str]) -> View:
    from kazoo.exceptions import KazooException, NoNodeError

    from .zookeeper.client import TlsOptions, ZooKeeper

    files = (servers.zookeeper_ca, servers.zookeeper_cert, servers.zookeeper_key)
    ca, cert, key = (str(file) if file else None for file in files)
    zk = ZooKeeper(hosts, cluster=servers.cluster, tls=TlsOptions(ca, cert, key) if ca else None)
    try:
        if not zk.start(TIMEOUT_S):
            return View("zookeeper", problem=f"{hosts} cannot be reached")
        nodes |= _registered(zk)
        data, _ = zk.client.get(zk.path("ring"))
    except NoNodeError:
        return View("zookeeper", problem=f"has no ring of cluster {servers.cluster!r}")
    except (KazooException, InvalidInput) as error:
        return View("zookeeper", problem=f"{type(error).__name__}: {error}")
    finally:
        zk.stop()
    return _signed("zookeeper", data, servers.keys)


def _registered(zk: ZooKeeper) -> dict[str, str]:
    """HTTP bases by id of the nodes that are registered, whether in the ring or not."""
    names = zk.client.get_children(zk.path("nodes"))
    records = [NodeRecord.parse(zk.client.get(zk.path("nodes", name))[0]) for name in names]
    return {record.id: record.http for record in records}


def _redis_view(url: str, servers: Servers) -> View:
    from .store.client import connect
    from .store.keys import Keys
    from .store.ring_mirror import RingMirror

    try:
        data = RingMirror(connect(url), Keys(servers.cluster)).load()
    except Unavailable as error:
        return View("redis", problem=str(error))
    if data is None:
        return View("redis", problem=f"has no ring of cluster {servers.cluster!r}")
    return _signed("redis", data, servers.keys)


def _lookup_views(part: str, url: str, nodes: dict[str, str]) -> list[View]:
    """A lookup's ring, and that of each of its processes that has another; the members' addresses go into `nodes`."""
    answer, said = _get(f"{url}/ring"), _get(f"{url}/readyz")
    if isinstance(answer, str):
        return [View(part, problem=answer)]
    nodes |= {member["id"]: member["http"] for member in answer.get("members", [])}
    view, metrics = _view(part, answer | (said if isinstance(said, dict) else {})), _metrics(url)
    publishes = re.search(r'^ringway_lookup_publisher\{pid="\d+"\} 1\.0$', metrics, re.MULTILINE) is not None
    workers = [worker for worker in _workers(part, metrics) if worker.version != view.version]
    return [replace(view, publishes=publishes), *workers]


def _metrics(url: str) -> str:
    try:
        return httpx.get(f"{url}/metrics", timeout=TIMEOUT_S).text
    except httpx.HTTPError:
        return ""


def _workers(part: str, text: str) -> list[View]:
    """What the metrics say of each process of a lookup: whoever answered `/ring` is only one of them."""
    found = {name: dict(re.findall(rf'^ringway_lookup_ring_{name}{{pid="(\d+)"}} (\S+)$', text, re.MULTILINE))
             for name in ("gen", "epoch", "checksum")}  # fmt: skip
    return [
        View(f"{part}, process {pid}", Version(int(float(gen)), int(float(found["epoch"][pid]))),
             f"{int(float(found['checksum'][pid])):013x}")
        for pid, gen in found["gen"].items() if float(gen)
    ]  # fmt: skip


def _node_view(part: str, url: str) -> View:
    answer = _get(url, ANY_CERTIFICATE)  # as the lookups ask it
    return View(part, problem=answer) if isinstance(answer, str) else _view(part, answer)


def _view(part: str, answer: Mapping[str, Any]) -> View:
    dropped = ", ".join(f"{cause} {count}" for cause, count in sorted(answer.get("documents_dropped", {}).items()))
    if "epoch" not in answer:
        problem = why_dropped(dropped) if dropped else "has no ring yet"
        return View(part, problem=f"has no ring: {problem}" if dropped else str(answer.get("message") or problem))
    view = View(part, Version(answer["gen"], answer["epoch"]), str(answer["checksum"]), dropped=dropped)
    problems = ["cannot reach ZooKeeper: its ring is stale"] if answer.get("stale") else []
    problems += ["cannot reach Redis"] if answer.get("redis") is False else []
    return replace(view, problem="; ".join(problems))


def _get(url: str, trust: ssl.SSLContext | bool = True) -> dict[str, Any] | str:
    """The JSON of an answer, whatever its status; or what is wrong, in words."""
    try:
        return dict(httpx.get(url, timeout=TIMEOUT_S, verify=trust).json())
    except httpx.HTTPError as error:
        return f"does not answer ({error or type(error).__name__})"
    except ValueError:
        return "answers something that is not JSON"
