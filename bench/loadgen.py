"""Running the load generator and reading what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .peers import WORK, Running
from .processes import LOAD_CORE, pinned

PATIENCE_S = 60.0  # beside the measurement: the generator gives up opening connections after 30 s


def command(mode: str, port: int, options: Sequence[str], core: int | None = LOAD_CORE) -> list[str]:
    words = [str(WORK / "wsload"), mode, "--port", str(port), *options]
    return words if core is None else pinned(core, words)


def load(
    mode: str, server: Running, connections: int, seconds: float, *options: str,
    tickets: int | None = None, core: int | None = LOAD_CORE, watched: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Run the generator to its end, on any core if None, after a warm-up.

    `server_us` is the server's (or the `watched` processes') processor time for each thing counted. Raises
    RuntimeError with the generator's words where it could not, or where the server closed connections during the run.
    """
    server.allow(connections)
    words = [
        "--connections", str(connections), "--seconds", str(seconds), "--warmup", str(warmup(seconds)),
        "--watch", ",".join(map(str, watched or server.pids)), *options, *server.options(tickets or connections),
    ]
    run = command(mode, server.port, words, core)
    done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=seconds + PATIENCE_S)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr) or f"wsload {mode} ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if result["closed"]:
        raise RuntimeError(f"{result['closed']} connections ended during the run")
    if not result["count"]:
        raise RuntimeError(f"nothing was done within {seconds:g} s; {last_line(done.stderr)}".removesuffix("; "))
    if result["failed"] > result["count"] / 100:
        raise RuntimeError(f"{result['count']} done, {result['failed']} failed; {last_line(done.stderr)}")
    result["server_us"] = round(result["server_cpu_s"] / result["count"] * 1e6, 2)
    return result


def warmup(seconds: float) -> float:
    """How long before a measurement of so many seconds: until all connections are in their stride."""
    return min(max(0.3, seconds / 4), seconds)


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("wsload: ")


class Held:
    """Idle connections that grow step by step."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def grow(self) -> None:
        """Wait until all connections of the step are open. Raises RuntimeError where they could not be."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if not self._process.stdout.readline().startswith("ready"):
            raise RuntimeError(last_line(self._process.stderr.read()))

    def go_on(self) -> None:
        """Let it begin with the next step; after the last one, let it end."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def held_open(server: Running, steps: Sequence[int]) -> Iterator[Held]:
    """Up to steps[-1] idle connections, closed at the end of the block; they answer pings."""
    words = ["--connections", str(steps[-1]), "--steps", ",".join(map(str, steps)), "--seconds", "600"]
    words += server.options(steps[-1])
    process = subprocess.Popen(command("idle", server.port, words), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield Held(process)
    finally:
        process.kill()
        process.communicate()
