"""A node is monkey-patched and this test process is not: the same port in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def test_the_port_works_in_a_patched_process() -> None:
    command = [sys.executable, "-m", "tests.ws_server.patched_cases"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all right"
