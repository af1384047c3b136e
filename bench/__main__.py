"""`python -m bench`: every subject, every peer, interleaved; medians and ratios as a table and plots.

    python -m bench                     all subjects, five rounds of the main ones, three of the rest; about 50 minutes
    python -m bench --only handshakes   the subjects whose name contains the text
    python -m bench --rounds 1          a quick look; its figures are not written to bench/results

Peers are run in turn within a round, so that a slow minute of the machine hits all of them. The table says how much
of its core the load generator used: where that is near 100 %, the generator was the limit.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import click

from .peers import PEERS, Subjected, install
from .relay_peers import RELAYS
from .report import write_report
from .ringway_peer import RINGWAY
from .route_peers import LOOKUPS
from .subjects import SUBJECTS, Row, Subject

ALL: tuple[Subjected, ...] = (RINGWAY, *PEERS, *RELAYS, *LOOKUPS)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def once(subject: Subject, peer: Subjected) -> Row | None:
    """One run; None where the peer could not do it, with the reason on the screen."""
    load = os.getloadavg()[0]
    try:
        row = subject.run(peer)
    except RuntimeError as error:
        say(f"  {peer.name}: {error}")
        return None
    p99 = f", p99 {row['p99_ms']} ms" if "p99_ms" in row else ""
    say(f"  {peer.name}: {row[subject.figure]:,} {subject.figure}{p99}")
    return {**row, "load": load}


def medians(rows: list[Row]) -> Row:
    """The median of each figure over the rounds."""
    numeric = [key for key, value in rows[0].items() if isinstance(value, (int, float))]
    return {key: statistics.median(row[key] for row in rows) for key in numeric}


def measure(subject: Subject, peers: list[Subjected], rounds: int) -> dict[str, Row]:
    """Median figures by peer."""
    runs: dict[str, list[Row]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        say(f"{subject.name}: round {number + 1} of {rounds}")
        for peer in peers:
            row = once(subject, peer)
            if row is not None:
                runs[peer.name].append(row)
    return {name: {**medians(rows), "rounds": len(rows)} for name, rows in runs.items() if rows}


@click.command(help=__doc__)
@click.option("--only", default="", help="Subjects whose name contains this text.")
@click.option("--peer", "names", multiple=True, help="These peers only.")
@click.option("--rounds", type=click.IntRange(1, 50), default=None, help="Rounds instead of each subject's own.")
@click.option("--write/--no-write", default=None, help="Write bench/results; by default only with the full rounds.")
def main(only: str, names: tuple[str, ...], rounds: int | None, write: bool | None) -> None:
    install()
    chosen = [subject for subject in SUBJECTS if only in subject.name]
    if not chosen:
        sys.exit(f"--only {only!r}: must be part of one of: {'; '.join(s.name for s in SUBJECTS)}")
    results = {}
    for subject in chosen:
        peers = [p for p in ALL if subject.kind in p.subjects and (not names or p.name in names)]
        results[subject.name] = measure(subject, peers, rounds or subject.rounds)
    if write if write is not None else rounds is None:
        write_report(chosen, results)


if __name__ == "__main__":
    main()
