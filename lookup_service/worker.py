"""One worker process: its parts started, its WSGI callable, and its orderly end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize

from ringway.core.errors import RingwayError

from .app import create_app
from .config import LookupConfig, log_to_stderr
from .fast_route import FastRoute, Wsgi
from .metrics import forget_dead_processes
from .services import Services

log = logging.getLogger(__name__)

STOP_S = 2.0  # for requests in flight


def load(config: LookupConfig, end: Connection) -> Wsgi:
    """Start the parts and give the callable. `end` becomes readable when the parent stops or is gone."""
    # Ctrl-C reaches the whole process group; the parent alone decides what it means, or workers would be "lost" to it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    log_to_stderr(config.common.log_level)
    forget_dead_processes()
    services = _started(config)
    Finalize(None, services.stop, exitpriority=100)
    threading.Thread(target=_follow_parent, args=(end, services), name="parent-watch", daemon=True).start()
    return FastRoute(create_app(services).wsgi_app, services.router, services.cors)


def _started(config: LookupConfig) -> Services:
    try:
        services = Services(config)
    except RingwayError as error:  # such as a Redis Cluster of which no server answers
        log.error("cannot start: %s", error)
        sys.exit(1)
    services.start()
    return services


def _follow_parent(end: Connection, services: Services) -> None:
    wait([end])
    services.stop()
    os.kill(os.getpid(), signal.SIGTERM)
    # A worker that has only just begun still has the parent's handler, which does nothing here: it goes without a word.
    threading.Event().wait(STOP_S)
    os._exit(0)
