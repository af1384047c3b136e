"""`ringway chaos`: traffic with books on a cluster that runs already, and the user's own commands as faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cast import Load
from .report import page
from .run import Run, plan, run, shell_fault
from .traffic import Traffic

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    `seconds`: how long messages are sent; `faults`: name and shell command; `settle_s`: how long what is owed may take
    after that.
    """

    lookups: Sequence[str]
    load: Load
    seconds: float
    faults: Sequence[tuple[str, str]]
    settle_s: float
    report: Path | None
    token: str | None  # module:callable that gives a uid's bearer token
    api_key: str | None


def main(options: Options, say: Say) -> int:
    """Run and report; the exit code: 0 if the promise held."""
    done = asyncio.run(_run(options, say))
    for line in done.lines():
        say(line)
    if not done.settled:
        say(f"after {options.settle_s:g} s somebody was still away, or something without its ok or its reader")
    for strike in done.failed_faults:
        say(f"a fault failed, so this run proves nothing about it: {strike.error}")
    if options.report is not None:
        options.report.write_text(page(done, f"ringway chaos, {time.strftime('%Y-%m-%d %H:%M')}"))
        say(f"report: {options.report}")
    return 0 if done.ok else 1


async def _run(options: Options, say: Say) -> Run:
    traffic = Traffic(options.lookups, options.load, token=options.token, api_key=options.api_key)
    try:
        say(f"opening {options.load.sessions} clients in {options.load.processes} processes")
        await traffic.open()
        faults = plan([shell_fault(*fault) for fault in options.faults], options.seconds, options.load.seed)
        say(f"talking for {options.seconds:g} s; faults: " + (", ".join(
            f"{fault.name} at {at:.0f} s" for at, fault in faults) or "none"))
        return await run(traffic, faults, options.seconds, settle_s=options.settle_s, say=say)
    finally:
        await traffic.close()
