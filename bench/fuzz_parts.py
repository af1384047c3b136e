"""What `bench.fuzz` runs: each part a command with its numbers, its time, and the lines that say what it did."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ringway.ws_server import fast

STREAMS, CYCLES = 1_000_000, 24_000
ATHERIS_S, SANITIZED_STREAMS = 120, 100_000
PYTEST = (sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider")
TESTED = r"^\d+ passed|\d+ failed"


@dataclass(frozen=True)
class Part:
    """A program. `figure`: a regular expression of lines that the report shows; `missing`: why it cannot run."""

    name: str
    command: tuple[str, ...]
    limit_s: float
    figure: str
    env: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


def parts(share: float, seed: int, corpus: Path) -> tuple[Part, ...]:
    """All of them, in order: what atheris puts into `corpus` is read under the sanitizers."""
    streams, cycles = max(1000, round(STREAMS * share)), max(1, round(CYCLES * share))
    return (
        Part("generated streams", (*PYTEST, "tests/ws_server/test_wire_fuzz.py"), 3600, rf"\d streams, seed|{TESTED}",
             {"RINGWAY_FUZZ_STREAMS": str(streams), "RINGWAY_FUZZ_SEED": str(seed)}),
        Part("rude clients", (*PYTEST, "tests/ws_server/test_rude_clients.py", "-k", "nothing_behind"), 3600,
             rf"\d rude cycles|{TESTED}", {"RINGWAY_RUDE_CYCLES": str(cycles)}),
        _atheris(max(2, round(ATHERIS_S * share)), seed, corpus),
        _sanitizers(max(1000, round(SANITIZED_STREAMS * share)), seed, corpus),
    )


def _atheris(seconds: int, seed: int, corpus: Path) -> Part:
    missing = "" if importlib.util.find_spec("atheris") else "no atheris, which has wheels for Linux on x86-64 alone"
    options = (f"-max_total_time={seconds}", f"-seed={seed + 1}", "-print_final_stats=1", str(corpus))
    figure = r"^readers:|^#\d+\s+DONE|^Done \d+"
    return Part("atheris", (sys.executable, "-m", "tests.fuzz.fuzz_wire", *options), seconds + 60, figure, {}, missing)


def _sanitizers(streams: int, seed: int, corpus: Path) -> Part:
    missing = "" if fast.compiled is not None and shutil.which("gcc") else "no compiled part, or no gcc"
    env = {"RINGWAY_FUZZ_STREAMS": str(streams), "RINGWAY_FUZZ_SEED": str(seed)}
    command = (sys.executable, "-m", "tests.fuzz.sanitized", str(corpus))
    return Part("sanitizers", command, 1800, rf"inputs of a corpus|{TESTED}", env, missing)
