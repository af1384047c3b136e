"""Results as JSON, Markdown tables and plots, written after each subject."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from .aims import AIMS, ATTAINABLE
from .peers import HERE, PEER_PYTHON, WORK
from .plots import bars, file_name, lines
from .results import RESULTS, machine, parts, peer_versions, write_json
from .subjects import CEILING, FANOUTS, FEW, GROWTH, OURS, SUBJECTS, Row, Subject, echo_name

Results = Mapping[str, Mapping[str, Row]]
FIGURES = ("per_s", "server_us", "p50_ms", "p99_ms", "p99_alone_ms", "readers", "closed_4101", "torn", "grown_mib",
           "kept_mib", "core_percent")
GROWTH_NAMES = {n: echo_name(n, 1, 64) for n in GROWTH}
FANOUT_NAMES = {n: f"fan-out to {n}" for n in FANOUTS}
PLOTTED = frozenset({
    echo_name(100, 1, 64), echo_name(100, 10, 64), "handshakes", "signed routes", "node to node, 1 in flight",
    "node to node, 200 in flight", "10,000 idle connections, pings every 25 s"})
INTRODUCTION = """\
Medians of interleaved rounds (`make bench`); a p99 is the median of the rounds' p99s. `ratio` is ringway over the
peer: above 1, ringway is better. `server_us`: processor microseconds of the server's processes for each message
(echo: one in and one out), handshake, delivery or route, measured over the same time; node to node, those of all that
runs for it, Redis too. `busy`: the share of its core that the server used; near 100 % it was the limit. `generator`:
the share of its own core that the load generator used; where that is near 100 % and `busy` is not, the generator was
the limit. What a server can reach at most shows in the row of the ceiling, a C server that does nothing but echo.
`load`: the machine's load average when a run began; the bench itself makes up to 2. All clients are the same program
with the same schedule: each connection sends its next message when an answer has come, and what comes together is
answered together, in one write (`a write each`: not so; there the generator is the limit for whoever is as fast as it
is, and `server_us` is what compares). ringway has its whole session behind each connection, with a signed ticket that
it verifies in the handshake; the others echo. Centrifugo is not among the peers: Go is here, but its module proxy
answers 403, "This module version is not available", for every version of `centrifugo` and of `centrifuge`.

Not figures but proofs are [chaos.md](chaos.md) (`make chaos`), [soak.txt](soak.txt) (`make soak`) and
[fuzz.txt](fuzz.txt) (`make fuzz`: a million streams of frames, 24,000 rude clients, atheris, sanitizers)."""


class Report:
    """What is measured so far. A run of some subjects only replaces those."""

    def __init__(self, *, fresh: bool, folder: Path = RESULTS) -> None:
        self._folder, path = folder, folder / "peers.json"
        self._stale_plots = sorted(folder.glob("*.svg")) if fresh else []
        self._results: dict[str, Mapping[str, Row]] = {}
        if not fresh and path.exists():
            self._results = json.loads(path.read_text())["rows"]
        self._versions = peer_versions(
            PEER_PYTHON, HERE / "servers" / "requirements.txt", WORK / "npm" / "node_modules")

    def add(self, subject: Subject, rows: Mapping[str, Row]) -> None:
        self._results[subject.name] = rows
        while self._stale_plots:
            self._stale_plots.pop().unlink(missing_ok=True)
        write_json("peers", self._results, folder=self._folder, peers=self._versions, parts=parts())
        (self._folder / "README.md").write_text(markdown(self._results, self._versions))
        if subject.name in PLOTTED:
            bars(self._folder, subject, measured(rows))
        plot_lines(self._folder, self._results)


def markdown(results: Results, versions: Mapping[str, str]) -> str:
    """The aims, then one table a subject, peers from best to worst."""
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    others = ", ".join(f"{key} {value}" for key, value in versions.items())
    text = ["# Results", "", INTRODUCTION, "", f"Machine: {where}.", "", f"Peers and programs: {others}.", "",
            f"Compiled parts: {parts()}.", "", *aims(results), *generator(results), *growth(results), *fanouts(results)]
    for subject in SUBJECTS:
        if rows := results.get(subject.name):
            text += table(subject, rows)
    return "\n".join(text)


def measured(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Without the peers that could not be."""
    return {name: row for name, row in rows.items() if "why" not in row}


def aims(results: Results) -> list[str]:
    """What was wanted, and what came out; not the ones whose subjects have not been measured."""
    text = ["## Aims", "", "| what | wanted | measured | |", "|---|---|---|---|"]
    for aim in AIMS:
        value = aim.measure(results)
        if value is not None:
            met = value <= aim.bound if aim.at_most else value >= aim.bound
            sign = "at most" if aim.at_most else "at least"
            text.append(f"| {aim.what} | {sign} {aim.bound:g}{aim.unit} | {value:.3g}{aim.unit} | "
                        f"{'met' if met else '**missed**'} |")
    if (most := ATTAINABLE(results)) is not None:
        text += ["", f"The ceiling, which does nothing but the system calls, is {most:.3g} x flask-sock with 1 in "
                 "flight: more is not to be had on this machine."]
    return [*text, ""]


def ratio(subject: Subject, ours: Row | None, theirs: Row) -> str:
    """How many times better ringway is: above 1 is better, whichever way the figure counts."""
    if ours is None or not theirs.get(subject.figure) or not ours.get(subject.figure):
        return ""
    value = ours[subject.figure] / theirs[subject.figure]
    return f"{1 / value if subject.less_is_better else value:.2f}"


def table(subject: Subject, rows: Mapping[str, Row]) -> list[str]:
    done = measured(rows)
    first: Row = next(iter(done.values()), {})
    steps = dict.fromkeys(key for row in done.values() for key in row if key.startswith("kib_"))
    columns = [key for key in FIGURES if key in first] + list(steps)
    generator = ["generator"] if "cpu" in first else []
    shares = ["busy", "generator"] if generator and subject.kind != "relay" else generator
    head = ["server", *columns, "ratio", *shares, "load", "rounds"]
    text = [f"## {subject.name}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in best_first(subject, done):
        cells = [figure(column, row) for column in columns]
        cells.append(ratio(subject, rows.get(OURS), row))
        cells += [f"{busy(row):.0%}"] if "busy" in shares else []
        cells += [f"{row['cpu']:.0%}"] if generator else []
        cells += [f"{row['load']:.1f}", str(row["rounds"])]
        text.append(f"| {name} | " + " | ".join(cells) + " |")
    text += [f"| {name} | not measured: {row['why']} |" + " |" * (len(head) - 2)
             for name, row in rows.items() if "why" in row]
    text += [f"\n{name} failed {row['failures']} times beside that: {row['why_failed']}."
             for name, row in done.items() if "failures" in row]
    return [*text, "", *([f"![{subject.name}]({file_name(subject.name)})", ""] if subject.name in PLOTTED else [])]


def busy(row: Row) -> float:
    """The share of its core that a server used."""
    return float(row["per_s"] * row["server_us"] / 1e6)


def best_first(subject: Subject, rows: Mapping[str, Row]) -> list[tuple[str, Row]]:
    """Those without the figure, that did not get so far, are last."""
    sign = 1 if subject.less_is_better else -1
    return sorted(rows.items(), key=lambda item: sign * item[1].get(subject.figure, sign * math.inf))


def figure(column: str, row: Row) -> str:
    value = row.get(column)
    if value is None:
        return ""
    return f"{value:,.0f}" if column == "per_s" else f"{value:,g}"


def generator(results: Results) -> list[str]:
    """Whether the load generator was the limit: what it did against the ceiling, and its share of a core there."""
    text = ["## The load generator", "", "What it did against the ceiling, a C server that only echoes, and the share "
            "of its core that it used there and against ringway; and the share of its own core that ringway used. "
            "ringway was the limit where that is nearly all of it.", "",
            "| subject | against the ceiling, per s | its share there | against ringway, per s | its share there "
            "| ringway's share |", "|---|---|---|---|---|---|"]
    rows = [(subject.name, ceiling, ours) for subject in SUBJECTS if (row := results.get(subject.name))
            and "cpu" in (ceiling := row.get(CEILING, {})) and "cpu" in (ours := row.get(OURS, {}))]
    text += [f"| {name} | {ceiling['per_s']:,.0f} | {ceiling['cpu']:.0%} | {ours['per_s']:,.0f} | {ours['cpu']:.0%} "
             f"| {busy(ours):.0%} |" for name, ceiling, ours in rows]
    return [*text, ""] if rows else []


def growth(results: Results) -> list[str]:
    """Cost of a message as connections grow ten times and a hundred times."""
    rows = {name: values for name, values in by_size(results, GROWTH_NAMES, "server_us").items()
            if len(values) == len(GROWTH)}
    if not rows:
        return []
    head = [f"{n:,} connections" for n in GROWTH]
    text = ["## Cost of a message as connections grow", "", "Echo, 1 in flight, 64 B: processor microseconds of the "
            "server for each message.", "",
            "| server | " + " | ".join([*head, f"{GROWTH[-1]:,} over {GROWTH[0]}"]) + " |",
            "|" + "---|" * (len(head) + 2)]
    text += [f"| {name} | " + " | ".join(f"{v[n]:.2f}" for n in GROWTH) + f" | {v[GROWTH[-1]] / v[GROWTH[0]]:.2f} |"
             for name, v in rows.items()]
    return [*text, "", f"![growth]({file_name('growth')})", ""]


def fanouts(results: Results) -> list[str]:
    rows = by_size(results, FANOUT_NAMES, "per_s")
    if not rows:
        return []
    text = ["## Fan-out by size", "", "Deliveries a second, one message to so many connections.", "",
            "| server | " + " | ".join(f"{n:,}" for n in FANOUTS) + " |", "|" + "---|" * (len(FANOUTS) + 1)]
    text += [f"| {name} | " + " | ".join(f"{v[n]:,.0f}" if n in v else "" for n in FANOUTS) + " |"
             for name, v in rows.items()]
    return [*text, "", f"![fan-out]({file_name('fan-out')})", ""]


def by_size(results: Results, names: Mapping[int, str], wanted: str) -> dict[str, dict[int, float]]:
    """Peer -> size -> figure, where it was measured."""
    found: dict[str, dict[int, float]] = {}
    for size, subject in names.items():
        for peer, row in measured(results.get(subject, {})).items():
            if peer in FEW and wanted in row:
                found.setdefault(peer, {})[size] = row[wanted]
    return found


def plot_lines(folder: Path, results: Results) -> None:
    """The figures that go over sizes. Rewritten when one of their subjects is measured."""
    lines(folder, "growth", "Echo: processor time a message as connections grow", "connections", "us of the server",
          by_size(results, GROWTH_NAMES, "server_us"))
    lines(folder, "fan-out", "Fan-out: deliveries a second by size", "connections", "per second",
          by_size(results, FANOUT_NAMES, "per_s"))
    lines(folder, "memory", "Memory per idle connection", "connections", "KiB", dict(_memory(results)))


def _memory(results: Results) -> Iterator[tuple[str, dict[int, float]]]:
    for peer, row in measured(results.get("memory per idle connection", {})).items():
        yield peer, {int(key[4:]): float(value) for key, value in row.items() if key.startswith("kib_")}


