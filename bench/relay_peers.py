"""Messages from a user on one node to a user on another: ringway (durable) and python-socketio (at most once)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ringway.processes import Processes
from ringway.servers import start_redis

from .peers import HERE, PEER_PYTHON, WORK, Running, free_port, wait_listening
from .ringway_peer import cluster

PAIRS = 20
BODY = "x" * 64


@dataclass(frozen=True)
class RingwayRelay:
    """Two nodes: senders are on one, their receivers users of the other. Every message goes through a log."""

    name: str = "ringway"
    subjects: frozenset[str] = frozenset({"relay"})

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        with cluster({}, {"n1": {}, "n2": {}}) as bench:
            receivers = bench.uids("n2", PAIRS)
            paths = bench.paths(((uid, "n1") for uid in bench.uids("n1", PAIRS)), WORK / "paths")
            paths2 = bench.paths(((uid, "n2") for uid in receivers), WORK / "paths2")
            uids = WORK / "uids"
            uids.write_text("\n".join(receivers))
            (child, port), (_, port2) = bench.nodes["n1"], bench.nodes["n2"]
            message = '{"t":"send","id":"m%n","to":"%u","body":"' + BODY + '"}'
            yield Running(child.pid, port, (
                "--swallow", "1", "--paths", str(paths), "--port2", str(port2), "--paths2", str(paths2),
                "--uids", str(uids), "--message", message))


@dataclass(frozen=True)
class SocketioRelay:
    """Two servers with the Redis manager between them; every receiver in a room of its own."""

    name: str = "python-socketio"
    subjects: frozenset[str] = frozenset({"relay"})

    @contextmanager
    def running(self, kind: str) -> Iterator[Running]:
        with Processes(on_line=lambda _child, _line: None) as processes:
            _, redis = start_redis(processes)
            command = [str(PEER_PYTHON), str(HERE / "servers" / "socketio_gevent.py")]
            ports = [free_port(), free_port()]
            servers = [processes.start(f"socketio {port}", [*command, str(port), redis]) for port in ports]
            for port, server in zip(ports, servers, strict=True):
                wait_listening(port, server.popen)
            time.sleep(1.0)  # it does not say when it has subscribed, and what is sent before that is lost
            yield Running(servers[0].pid, ports[0], (
                "--port2", str(ports[1]), "--path", "/socket.io/?EIO=4&transport=websocket", "--swallow", "3",
                "--hello", "40", "--hello", '42["iam","b%i"]', "--message", f'42["to","b%i","{BODY}"]'))


RELAYS = (RingwayRelay(), SocketioRelay())
