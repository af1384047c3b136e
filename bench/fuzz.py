"""`python -m bench.fuzz`: strangers' bytes and rude clients, in the numbers that are claimed; some ten minutes.

    python -m bench.fuzz                              all of it, a new seed, which is printed
    python -m bench.fuzz --share 0.02 --seed 7        a fiftieth of it, with the streams of an earlier run
    python -m bench.fuzz --only atheris               the parts whose name contains the text

A million generated streams of frames go through our reader, compiled and in Python, and through `websockets`', and all
must say the same. 24,000 clients leave in every rude way, and nothing may stay behind. atheris looks for inputs by
coverage, and what it finds is read once more, with the tests of the compiled part, under AddressSanitizer and UBSan.
Exit code 1 where one of these fails; what cannot run on this machine is said, and fails nothing.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import click

from ringway.operator import table

from .fuzz_parts import Part, parts
from .results import RESULTS, machine

ROOT = Path(__file__).parent.parent
SHOW_S = 5.0  # between lines of progress
TAIL = 60  # lines of a part that failed
START = time.monotonic()


@dataclass
class Outcome:
    """What became of a part; `figures` are its own last words on numbers."""

    name: str
    verdict: str = "ok"
    seconds: float = 0.0
    figures: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.verdict.startswith("FAILED")


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"{minutes:3d}:{seconds:02d} {text}", flush=True)


@contextmanager
def running(part: Part) -> Iterator[subprocess.Popen[str]]:
    """The part's process, killed when its time is over."""
    env: Mapping[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1", **part.env}
    with subprocess.Popen(part.command, cwd=ROOT, env=env, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        timer = Timer(part.limit_s, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def run(part: Part) -> Outcome:
    outcome = Outcome(part.name)
    if part.missing:
        outcome.verdict = f"not here: {part.missing}"
        return outcome
    started = shown = time.monotonic()
    tail: deque[str] = deque(maxlen=TAIL)
    with running(part) as process:
        assert process.stdout is not None
        for line in map(str.strip, process.stdout):
            tail.append(line)
            if re.search(part.figure, line):
                outcome.figures.append(line)
            if time.monotonic() - shown > SHOW_S:
                shown = time.monotonic()
                say(f"  {line[:110]}")
        code = process.wait()
    outcome.seconds = time.monotonic() - started
    if code:
        outcome.verdict = f"FAILED with {code}"
        print("\n".join(tail), flush=True)
    return outcome


def report(outcomes: list[Outcome], seed: int) -> str:
    """What was run, and on what; the same text that is kept."""
    rows = [[each.name, each.verdict, f"{each.seconds:.0f}"] for each in outcomes]
    figures = [f"{each.name}: {line}" for each in outcomes for line in each.figures]
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    return "\n".join([f"seed {seed}", "", table(["part", "verdict", "seconds"], rows), "", *figures, "", where])


@click.command(help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))  # \b: lines stay as they are
@click.option("--share", type=click.FloatRange(0.0001, 10), default=1.0, show_default=True, help="Of the full numbers.")
@click.option("--seed", type=int, default=None, help="Of an earlier run, to see its streams again.")
@click.option("--only", multiple=True, help="Parts whose name contains this text; may be given again.")
def main(share: float, seed: int | None, only: tuple[str, ...]) -> None:
    seed = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    outcomes = []
    with TemporaryDirectory() as corpus:
        for part in parts(share, seed, Path(corpus)):
            if not only or any(text in part.name for text in only):
                say(part.name)
                outcomes.append(run(part))
                say(f"{part.name}: {outcomes[-1].verdict}")
    text = report(outcomes, seed)
    print(text)
    if share == 1.0 and not only:
        (RESULTS / "fuzz.txt").write_text(f"{text}\n")
    sys.exit(1 if any(each.failed for each in outcomes) else 0)


if __name__ == "__main__":
    main()
