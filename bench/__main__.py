"""`python -m bench`: every subject, every peer, interleaved; medians and ratios as tables and plots.

    python -m bench                             everything, five rounds, in at most 33 minutes
    python -m bench --only handshakes           the subjects whose name contains the text
    python -m bench --rounds 1 --seconds 0.3    whether it all works; its figures are not written to bench/results

Peers are run in turn within a round, so that a slow minute of the machine hits all of them. Results are written after
each subject. Where time runs short, rounds of a subject are left out (never its first), and `rounds` says how many it
had.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from ringway.ws_server import fast

from .peers import PEERS, Subjected, install
from .relay_peers import RELAYS
from .report import Report
from .results import RESULTS, parts
from .ringway_peer import RINGWAY, RINGWAY_PURE
from .route_peers import LOOKUPS
from .runner import Plan, Runner
from .subjects import FEW, SUBJECTS, Row, Subject

OURS_TOO: tuple[Subjected, ...] = (RINGWAY_PURE,) if fast.compiled is not None else ()  # else it is RINGWAY itself
ALL: tuple[Subjected, ...] = (RINGWAY, *OURS_TOO, *PEERS, *RELAYS, *LOOKUPS)
START = time.monotonic()


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    sys.stdout.write(f"{minutes:3d}:{seconds:02d} {text}\n")  # in one piece: peers may be measured in threads
    sys.stdout.flush()


def taking_part(subject: Subject, names: tuple[str, ...]) -> list[Subjected]:
    return [peer for peer in ALL if subject.kind in peer.subjects
            and (subject.others or peer.name in FEW) and (not names or peer.name in names)]


@click.command(help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))  # \b: lines stay as they are
@click.option("--only", default="", help="Subjects whose name contains this text.")
@click.option("--peer", "names", multiple=True, help="These peers only.")
@click.option("--rounds", type=click.IntRange(1, 50), default=None, help="Rounds instead of each subject's own.")
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=None, help="Of each measurement.")
@click.option("--minutes", type=click.FloatRange(1, 600), default=33.0, show_default=True, help="For all of it.")
@click.option("--write/--no-write", default=None, help="Write the results; by default only with the full rounds.")
@click.option("--to", type=click.Path(path_type=Path), default=RESULTS, help="Where to; by default bench/results.")
def main(
    only: str, names: tuple[str, ...], rounds: int | None, seconds: float | None, minutes: float, write: bool | None,
    to: Path,
) -> None:
    chosen = [subject for subject in SUBJECTS if only in subject.name]
    if not chosen:
        sys.exit(f"--only {only!r}: must be part of one of: {'; '.join(s.name for s in SUBJECTS)}")
    for missing in install():
        say(f"a peer could not be installed: {missing}")
    say(f"ringway runs on: {parts()}")
    writing = write if write is not None else rounds is None and seconds is None
    report = Report(fresh=not only and not names, folder=to) if writing else None
    work = [(subject, [p.name for p in taking_part(subject, names)], rounds or subject.rounds) for subject in chosen]
    with Runner(Plan(minutes * 60, work, seconds), say, seconds) as runner:
        for subject in chosen:
            rows = runner.measure(subject, taking_part(subject, names), rounds or subject.rounds)
            if report is not None:
                written(report, subject, rows)
    say("done")


def written(report: Report, subject: Subject, rows: dict[str, Row]) -> None:
    """Write what there is so far. Where that goes wrong the run goes on: the next subject writes all of it again."""
    try:
        report.add(subject, rows)
    except Exception as error:  # noqa: BLE001 - a table or a plot must not cost the half hour that it came from
        say(f"the results could not be written: {error!r}")


if __name__ == "__main__":
    main()
