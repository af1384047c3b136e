"""A Redis Cluster and a Redis behind Sentinel, of real servers on loopback."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
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

    def move(self, key: str) -> SlotMove:
        """The key's slot is to go to another master."""
        slot = key_slot(key.encode())
        ports = [server.port for server in self.servers]
        source = master_port(self.servers[0].port, slot)
        return SlotMove(slot, source, next(port for port in ports if port != source), ports)

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


class SlotMove:
    """A slot on its way from one master to another, in the steps of `redis-cli --cluster reshard`."""

    def __init__(self, slot: int, source: int, target: int, ports: list[int]) -> None:
        self._slot, self._source, self._target, self._ports = slot, source, target, ports
        self._target_id = _ask(target, "CLUSTER", "MYID").decode()

    def begin(self) -> None:
        """From now on what is not at the source any more, or not there yet, is looked for at the target."""
        source_id = _ask(self._source, "CLUSTER", "MYID").decode()
        _ask(self._target, "CLUSTER", "SETSLOT", self._slot, "IMPORTING", source_id)
        _ask(self._source, "CLUSTER", "SETSLOT", self._slot, "MIGRATING", self._target_id)

    def take(self, *keys: str) -> None:
        """These keys have moved; those that do not exist are passed over."""
        _ask(self._source, "MIGRATE", "127.0.0.1", self._target, "", 0, 5000, "KEYS", *keys)

    def finish(self) -> None:
        """The rest has moved too, and all masters know."""
        if keys := _ask(self._source, "CLUSTER", "GETKEYSINSLOT", self._slot, 1000):
            self.take(*keys)
        for port in (self._target, *self._ports):
            _ask(port, "CLUSTER", "SETSLOT", self._slot, "NODE", self._target_id)

    def run(self) -> None:
        self.begin()
        self.finish()


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


def master_port(port: int, slot: int) -> int:
    """Who has a slot, by the word of the server at `port`."""
    for first, last, (_host, master, *_), *_replicas in _ask(port, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return int(master)
    raise LookupError(slot)


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
