"""The store in a gevent process: it knows nothing of gevent and must not stop the loop."""

from __future__ import annotations

import subprocess
import sys


def test_the_store_works_under_monkey_patching() -> None:
    command = [sys.executable, "-m", "tests.store.gevent_case"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stdout + done.stderr


def test_the_store_does_not_import_gevent() -> None:
    code = "import sys, ringway.store, ringway.store.presence; assert 'gevent' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
