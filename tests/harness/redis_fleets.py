"""A Redis Cluster and a Redis behind Sentinel, of real servers on loopback."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from ringway.processes import Child, NotReady, Processes
from ringway.servers import redis_binary
from tests.harness.ports import pick_port
from tests.harness.redises import RealRedis
from tests.harness.server_process import Scope
from tests.harness.waiting import wait_until

SLOTS = 16384
SENTINEL_READY = r"Sentinel ID is"
_ATTEMPTS = 5


class RedisClusterServers(Scope):
    """Masters of one Redis Cluster, which share the slots evenly; no replicas."""

    def __init__(self, masters: int = 3) -> None:
        self._masters = masters
        self.servers: list[RealRedis] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def open(self) -> None:
        for _ in range(self._masters):
            server = RealRedis(durable=True, extra=["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])
            self.servers.append(server)
            _start_with_bus(server)
        self._form()

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def _form(self) -> None:
        share = SLOTS // self._masters
        for i, server in enumerate(self.servers):
            last = SLOTS if i == self._masters - 1 else (i + 1) * share
            _ask(server.port, "CLUSTER", "ADDSLOTS", *range(i * share, last))
            _ask(server.port, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.servers[1:]:
            _ask(server.port, "CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        wait_until(lambda: all(map(self._complete, self.servers)), 20.0, "the cluster has formed")

    def _complete(self, server: RealRedis) -> bool:
        info: bytes = _ask(server.port, "CLUSTER", "INFO")
        fields = dict(line.split(":") for line in info.decode().split())
        return (fields["cluster_state"], int(fields["cluster_known_nodes"])) == ("ok", self._masters)


class RedisSentinel(Scope):
    """A master, a replica, and one sentinel that decides alone."""

    MASTER = "main"

    def __init__(self) -> None:
        self.first = RealRedis(durable=True)
        self.second = RealRedis(durable=True)
        self._processes = Processes()
        self._folder = Path(tempfile.mkdtemp(prefix="ringway-sentinel-"))
        self._sentinel: Child | None = None
        self.port = pick_port()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.MASTER}?db=0"

    def failover(self) -> None:
        """Makes the other server the master, and waits until the sentinel says so."""
        before = self.master_port()
        wait_until(lambda: _ask(self.port, "SENTINEL", "FAILOVER", self.MASTER), 20.0, "a replica to promote",
                   ignore=(RedisError,))
        wait_until(lambda: self.master_port() != before, 20.0, "the other one is the master")
        wait_until(lambda: _role(self.master_port()) == b"master", 20.0, "the other one knows that it is the master")

    def master_port(self) -> int:
        return int(_ask(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.MASTER)[1])

    def open(self) -> None:
        self.first.open()
        self.second.open()
        _ask(self.second.port, "REPLICAOF", "127.0.0.1", self.first.port)
        self._start_sentinel()
        wait_until(self._sees_replica, 30.0, "the sentinel sees the replica")

    def close(self) -> None:
        if self._sentinel is not None and self._sentinel.alive:
            self._processes.stop([self._sentinel], grace_s=5.0)
        self._processes.close()
        for server in (self.first, self.second):
            server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_sentinel(self) -> None:
        config = self._folder / "sentinel.conf"
        config.write_text("\n".join([
            f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}",
            f"sentinel monitor {self.MASTER} 127.0.0.1 {self.first.port} 1",
            f"sentinel down-after-milliseconds {self.MASTER} 1000",
            f"sentinel failover-timeout {self.MASTER} 3000", "",
        ]))
        binary = shutil.which("redis-server") or redis_binary()
        self._sentinel = self._processes.start("sentinel", [binary, str(config), "--sentinel"])
        self._sentinel.wait_line(SENTINEL_READY, 10.0)

    def _sees_replica(self) -> bool:
        replicas = _ask(self.port, "SENTINEL", "REPLICAS", self.MASTER)
        synced = _info(self.second.port, "replication").get("master_link_status") == "up"
        return bool(replicas) and synced


def _start_with_bus(server: RealRedis) -> None:
    """A cluster server also takes port + 10000."""
    for attempt in range(_ATTEMPTS):
        try:
            server.start()
            return
        except NotReady:
            if attempt == _ATTEMPTS - 1:
                raise
            server.port = pick_port()


def _ask(port: int, *command: object) -> Any:
    with redis.Redis(port=port, socket_timeout=5.0) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def _role(port: int) -> bytes:
    role: bytes = _ask(port, "ROLE")[0]
    return role


def _info(port: int, section: str) -> dict[str, str]:
    text: bytes = _ask(port, "INFO", section)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
