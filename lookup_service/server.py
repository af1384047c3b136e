"""The parent process: it holds the port, starts the workers (granian), replaces those that die, and stops them all.

A pipe runs from the parent to every worker. Its end is the signal to finish: on a stop, before granian's own SIGTERM,
so that open event streams do not hold it up; and when the parent dies by kill -9, so that no worker stays behind.
"""

from __future__ import annotations

import dataclasses
import http.client
import logging
import os
import resource
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.log import LogLevels
from granian.server.mp import MPServer

from ringway.listen import cannot_listen

from .config import LookupConfig
from .events import MAX_LISTENERS

log = logging.getLogger(__name__)

REQUEST_THREADS = 8
# Connections of one worker. Idle ones count (granian lets go of them after 30 s), and one too many is not refused but
# waits without a word; granian's own 1,024 were a second's worth of clients that keep their connection.
CONNECTIONS = 16_384
OTHER_FILES = 128
STOP_S = 2  # after this, workers that still run are killed
READY_S = 30.0
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def serve(config: LookupConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError where the port cannot be had."""
    with _reserved(config.host, config.port) as held, tempfile.TemporaryDirectory(prefix="ringway-lookup-") as folder:
        os.environ[MULTIPROCESS] = folder
        address, port = held.getsockname()[:2]
        LookupServer(dataclasses.replace(config, port=port), address).run()


@contextmanager
def _reserved(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that keeps the port while workers come and go; it does not listen.

    granian's workers share the port by SO_REUSEPORT, which would let a second lookup of the same user share it
    too and take half the requests, so a port that is in use is found by a bind without it first.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    with held:
        yield held


class LookupServer(MPServer):
    """granian's server, with the pipe."""

    def __init__(self, config: LookupConfig, address: str) -> None:
        super().__init__(
            "ringway.lookup_service",
            address=address,
            port=config.port,
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            workers=config.workers,
            blocking_threads=REQUEST_THREADS + MAX_LISTENERS,
            backpressure=_connections(),
            respawn_failed_workers=True,
            workers_kill_timeout=STOP_S,
            websockets=False,
            log_level=LogLevels.error,
            ssl_cert=config.tls_cert,
            ssl_key=config.tls_key,
            ssl_protocol_min=SSLProtocols.tls12,  # as at the nodes
        )
        self._config = config
        self._end, self._goodbye = Pipe(duplex=False)

    def run(self) -> None:
        self.serve(target_loader=partial(_load, self._config, self._end, self._goodbye), wrap_loader=False)

    def startup(self, spawn_target: Any, target_loader: Any) -> None:
        super().startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        # After the workers were forked: a thread must not hold a lock while that happens.
        threading.Thread(target=_announce, args=(self._config,), name="announce", daemon=True).start()

    def shutdown(self, exit_code: int = 0) -> None:
        self._goodbye.close()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


def _connections() -> int:
    """How many connections a worker takes: fewer where the system allows fewer files. Raises the soft limit for it."""
    wanted = CONNECTIONS + OTHER_FILES
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (wanted if limit == resource.RLIM_INFINITY else limit for limit in limits)
    files = min(wanted, hard)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, limits[1]))
    return max(OTHER_FILES, files - OTHER_FILES)


def _load(config: LookupConfig, end: Connection, goodbye: Connection) -> Any:
    """In the worker: the WSGI callable."""
    goodbye.close()  # a copy; while it is open the pipe has no end
    from .worker import load

    return load(config, end)


def _announce(config: LookupConfig) -> None:
    """Print the ready line once a worker answers."""
    deadline = time.monotonic() + READY_S
    while not _answers(config):
        if time.monotonic() > deadline:
            log.error("no worker answers at %s after %g s", config.url, READY_S)
            return
        time.sleep(0.02)
    sys.stdout.write(f"ringway lookup ready url={config.url}\n")  # in one piece, whatever else the workers print
    sys.stdout.flush()


def _answers(config: LookupConfig) -> bool:
    connection: http.client.HTTPConnection
    host = urlsplit(config.url).hostname or config.host
    if config.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # our own port, by its address
        connection = http.client.HTTPSConnection(host, config.port, timeout=1.0, context=context)
    else:
        connection = http.client.HTTPConnection(host, config.port, timeout=1.0)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
