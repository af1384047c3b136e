"""Running the load generator and reading what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .peers import LOAD_CORE, WORK, pinned


def command(mode: str, port: int, options: Sequence[str], core: str | None = LOAD_CORE) -> list[str]:
    words = [str(WORK / "wsload"), mode, "--port", str(port), *options]
    return words if core is None else pinned(core, words)


def load(mode: str, port: int, *options: str, core: str | None = LOAD_CORE) -> dict[str, Any]:
    """Run the generator to its end, on any core if None. Raises RuntimeError with its words where it could not."""
    done = subprocess.run(command(mode, port, options, core), check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"wsload {mode}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@contextmanager
def held_open(port: int, connections: int, seconds: float, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`connections` idle connections, open when the block is entered, for at most `seconds`."""
    words = ["--connections", str(connections), "--seconds", str(seconds), *options]
    process = subprocess.Popen(command("idle", port, words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("ready"):
            raise RuntimeError(f"wsload idle: {process.stderr.read().strip()}")
        yield process
    finally:
        process.kill()
        process.communicate()
