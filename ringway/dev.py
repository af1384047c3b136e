"""`ringway dev`: a whole cluster on this machine, each part a process of its own, their output one stream.

Nothing is kept and nothing listens beyond loopback. A node that dies stays dead, and the stream says how to start
another: a developer who kills a node wants to watch the cluster without it.
"""

from __future__ import annotations

import queue
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click

from .core.errors import RingwayError
from .operator import POLL_S, LookupApi, LookupFailed, watch
from .options import without_password
from .processes import Child, Processes
from .servers import (
    LOOKUP_READY,
    NODE_READY,
    READY_TIMEOUT_S,
    require_server_extra,
    start_lookup,
    start_node,
    start_redis,
    start_zookeeper,
)

LOOPBACK = "127.0.0.1"
GRACE_S = 5.0
INSIST_S = 0.3  # there is nobody left to drain to
FOLLOW_RETRY_S = 0.5
PATIENCE_S = 10.0  # then it is said what the cluster waits for
COLOURS = ("cyan", "green", "yellow", "blue", "magenta", "bright_cyan", "bright_green", "bright_yellow")
# What only one process may have; a value of the developer's shell must not reach all of them.
OF_ONE_PROCESS: dict[str, str | None] = {"RINGWAY_ADVERTISE": None, "RINGWAY_NODE_ID": None, "RINGWAY_HOST": LOOPBACK}


@dataclass(frozen=True, slots=True)
class DevOptions:
    """`zookeeper` and `redis` are addresses of real servers, None = embedded ones. `app` is module:callable."""

    nodes: int
    lookups: int
    port: int
    zookeeper: str | None
    redis: str | None
    app: str | None


# What the services' loggers put before their words, and what is nobody's state.
LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?:INFO )?(?=([A-Z]+ )?(\S+): )")
CHATTER = re.compile(r"INFO kazoo\.|WARNING kazoo\.client: Connection dropped|^\d+:[CMS] .* [*#] |signal-handler")


class Stream:
    """One line at a time, prefixed with who says it, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {}

    def say(self, name: str, line: str) -> None:
        with self._lock:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            click.echo(f"{time.strftime('%H:%M:%S')} {click.style(f'{name:<9}', fg=colour)} | {line}")

    def relay(self, name: str, line: str) -> None:
        """A line of a part's own output, without its time and without its libraries' chatter."""
        if not CHATTER.search(line):
            self.say(name, LOG_PREFIX.sub("", line))

    def print(self, text: str) -> None:
        with self._lock:
            click.echo(text)


class DevCluster:
    """Starts the parts in their order in a thread of its own, so that a signal never meets a half-started one."""

    def __init__(self, options: DevOptions, stream: Stream) -> None:
        self._options = options
        self._stream = stream
        self._ends: queue.SimpleQueue[str | RingwayError] = queue.SimpleQueue()  # the first one ends it
        self._env: dict[str, str | None] = {}
        self._services: list[Child] = []
        self._urls: dict[str, str] = {}  # of those that were ready
        self._stopping = threading.Event()
        self._processes = Processes(on_line=self._said, on_exit=self._ended)

    def run(self) -> int:
        """Run until a signal; gives the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._start_and_report, name="start", daemon=True).start()
        end = self._ends.get()
        failed = isinstance(end, RingwayError)
        self._stream.print(f"{'the cluster did not start' if failed else end}; stopping")
        self._stop()
        if failed:
            click.echo(str(end), err=True)
            return 1
        self._stream.print("everything is stopped")
        return 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ends.put(signal.Signals(number).name)

    def _start_and_report(self) -> None:
        try:
            self._start()
        except RingwayError as error:
            self._ends.put(error)

    def _start(self) -> None:
        zookeeper = self._options.zookeeper or start_zookeeper(self._processes)[1]
        redis = self._options.redis or start_redis(self._processes)[1]
        self._env = {**OF_ONE_PROCESS, "RINGWAY_ZOOKEEPER": zookeeper, "RINGWAY_REDIS": redis}
        if self._options.app:
            self._env["RINGWAY_APP"] = self._options.app
        lookups = [self._start_lookup(index) for index in range(self._options.lookups)]
        nodes = [self._start_node(index) for index in range(self._options.nodes)]
        urls = [child.wait_line(LOOKUP_READY, READY_TIMEOUT_S)[1] for child in lookups]
        for child in nodes:
            child.wait_line(NODE_READY, READY_TIMEOUT_S)
        api = LookupApi(urls)
        self._wait_active(api, {child.name for child in nodes})
        if not self._stopping.is_set():
            self._stream.print(self._summary(urls))
        self._follow(api)

    def _wait_active(self, api: LookupApi, names: set[str]) -> None:
        """Until the ring has them all, however long that takes, or the end. Raises LookupFailed without a lookup."""
        say_at = time.monotonic() + PATIENCE_S
        while missing := names - {node["id"] for node in api.get("/nodes")["nodes"] if node["state"] == "active"}:
            if time.monotonic() >= say_at:
                self._stream.say("dev", f"still waiting for {', '.join(sorted(missing))}: {self._why(api.health())}")
                say_at += PATIENCE_S * 6
            if self._stopping.wait(POLL_S):
                return

    def _why(self, health: dict[str, Any]) -> str:
        """What a lookup misses, as far as it knows."""
        servers = {"zookeeper": "ZooKeeper", "redis": "Redis"}
        missing = [
            f"{name} does not answer at {without_password(str(self._env[f'RINGWAY_{part.upper()}']))}"
            for part, name in servers.items()
            if not health.get(part)
        ]
        return "; ".join(missing) or "their own lines say why they do not join"

    def _follow(self, api: LookupApi) -> None:
        """Say what each new ring changes, for as long as the cluster runs."""
        while not self._stopping.wait(FOLLOW_RETRY_S):
            try:
                for line in watch(api, api.get("/ring")):
                    self._stream.say("ring", line)
            except LookupFailed:  # its end is said by itself; another may answer
                api.next()

    def _start_lookup(self, index: int) -> Child:
        port = self._lookup_port() if index == 0 else 0
        child = start_lookup(self._processes, f"lookup-{index + 1}", {**self._env, "RINGWAY_PORT": str(port)})
        self._services.append(child)
        return child

    def _start_node(self, index: int) -> Child:
        child = start_node(self._processes, f"node-{index + 1}", {**self._env, "RINGWAY_PORT": "0"})
        self._services.append(child)
        return child

    def _lookup_port(self) -> int:
        """The wanted port, or 0 (any free one) with a word when somebody has it."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self._options.port))
            except OSError:
                self._stream.say("dev", f"port {self._options.port} is taken; the lookup gets a free one")
                return 0
        return self._options.port

    def _summary(self, urls: list[str]) -> str:
        more = [f"  export RINGWAY_LOOKUP={','.join(urls)}"] if len(urls) > 1 or not urls[0].endswith(":8080") else []
        return "\n".join(
            [
                "",
                f"  The cluster is ready. Lookup service: {', '.join(urls)}   (Ctrl-C stops everything)",
                "",
                "  In another terminal, a route and one more node:",
                "",
                f"  export LOOKUP={urls[0]}",
                f"  export RINGWAY_ZOOKEEPER={self._env['RINGWAY_ZOOKEEPER']}",
                f"  export RINGWAY_REDIS={self._env['RINGWAY_REDIS']}",
                *more,
                '  curl "$LOOKUP/route?uid=alice"',
                f"  {sys.argv[0]} node",
                "",
            ]
        )

    def _said(self, child: Child, line: str) -> None:
        """Pass on a line of a part, and keep its URL when it is ready."""
        if ready := re.search(f"{NODE_READY}|{LOOKUP_READY}", line):
            self._urls[child.name] = ready[2] or ready[4]
        self._stream.relay(child.name, line)

    def _ended(self, child: Child) -> None:
        """Say what happened to a part that ended by itself; nothing is restarted."""
        if child.stopping or self._stopping.is_set():
            return
        self._stream.say(child.name, f"{child.ending}. {self._consequence(child)}")

    def _consequence(self, child: Child) -> str:
        if child in self._services and child.name not in self._urls:
            return "It never was ready; its lines above say why"
        if child.name.startswith("node-"):
            return (
                "Its clients come back on the next nodes of the ring; the ring drops it when its ZooKeeper session "
                f"ends. Start it again, with the variables above: {sys.argv[0]} node --node-id {child.name}"
            )
        if child.name.startswith("lookup-"):
            port = urlsplit(self._urls[child.name]).port
            return f"Sessions go on. Start it again, with the variables above: {sys.argv[0]} lookup --port {port}"
        if child.name == "zookeeper":
            return "The last ring goes on, and routes are answered as stale; restart `ringway dev` for a new one"
        return "Sessions stay; durable messages are refused. Restart `ringway dev` for a new one"

    def _stop(self) -> None:
        self._stopping.set()
        self._processes.seal()
        signal.signal(signal.SIGINT, self._hurry)
        signal.signal(signal.SIGTERM, self._hurry)
        self._processes.stop(list(self._services), GRACE_S, INSIST_S)
        self._processes.close()

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        """A second Ctrl-C: no more waiting."""
        for child in self._services:
            child.send_group(signal.SIGKILL)


def run(options: DevOptions) -> int:
    """Run a development cluster until Ctrl-C or SIGTERM; gives the exit code. Raises MissingServer."""
    require_server_extra()
    return DevCluster(options, Stream()).run()
