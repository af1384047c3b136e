"""What becomes of worker processes whose parent is killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

import psutil

from tests.lookup_service.registered import eventually


def assert_they_end(command: Sequence[str], env: Mapping[str, str], *, ready: bool, children: int) -> None:
    """Kill the parent with its workers `ready`, or as soon as its children are there; these end in 5 seconds.

    Started without the harness, which would kill what a dead parent leaves behind.
    """
    parent = subprocess.Popen(
        [*command, "--workers", "2"], env={**os.environ, **env}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    try:
        if ready:
            assert "ready" in parent.stdout.readline()
        found = eventually(lambda: len(now := psutil.Process(parent.pid).children()) == children and now)
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(found, timeout=5)
        assert alive == []  # and the fixture sees that their leader znodes are gone before the session's time
    finally:
        parent.stdout.close()
        parent.kill()
        parent.wait()
