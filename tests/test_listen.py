"""A service that cannot listen names the option that is wrong: here, and as a node and a lookup say it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

from ringway.listen import cannot_listen

GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
SERVERS = {"RINGWAY_ZOOKEEPER": "127.0.0.1:1", "RINGWAY_REDIS": "redis://127.0.0.1:1/0"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GONE, "RINGWAY_HOST='h': cannot be resolved"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "RINGWAY_HOST='h': is no address of this machine"),
        (OSError(errno.EADDRINUSE, "in use"), "RINGWAY_PORT=80: cannot be listened on at h (in use); stop"),
        (OSError(errno.EACCES, "x"), "RINGWAY_PORT=80: may not be listened on at h; choose one above 1023"),
    ],
)
def test_the_option_that_is_wrong_is_named(error: OSError, said: str) -> None:
    assert str(cannot_listen("h", 80, error)).startswith(said)


@pytest.mark.parametrize("module", ["ringway.ws_server", "ringway.lookup_service"])
@pytest.mark.parametrize(("host", "why"), [("nohost.invalid", "cannot be resolved"), ("192.0.2.1", "is no address")])
def test_a_host_that_cannot_be_is_one_line_of_the_service(module: str, host: str, why: str) -> None:
    env = {**os.environ, **SERVERS, "RINGWAY_HOST": host, "RINGWAY_PORT": "0"}
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"RINGWAY_HOST='{host}': {why}")
    assert "Traceback" not in done.stderr
