"""Results as JSON, a Markdown table and plots. A later run of some subjects replaces only those."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .results import RESULTS, machine, write_json
from .subjects import SUBJECTS, Row, Subject

OURS = "ringway"
FIGURES = ("per_s", "server_us", "p50_ms", "p99_ms", "p99_alone_ms", "closed_4101", "core_percent")
INTRODUCTION = (
    "Medians of interleaved rounds (`make bench`); ratio is ringway over the peer, above 1 is better. `generator` is "
    "the share of its own core that the load generator used: near 100 % it was the limit, not the server. `load` is "
    "the machine's load average when a run began: well above 2 on two cores, other work took part of them, so that "
    "only ratios mean something, and tails (p99) are the machine's. `server_us`: CPU microseconds of the server each. "
    "Subjects with fewer peers or rounds than `make bench` runs were measured in a shorter run. Centrifugo is not "
    "among the peers: no version of its module could be had where this was measured."
)


def write_report(subjects: Sequence[Subject], results: Mapping[str, Mapping[str, Row]]) -> None:
    path = RESULTS / "peers.json"
    kept: dict[str, Any] = json.loads(path.read_text())["rows"] if path.exists() else {}
    merged = {**kept, **results}
    write_json("peers", merged)
    (RESULTS / "README.md").write_text(markdown(merged))
    for subject in subjects:
        plot(subject, merged[subject.name])


def ratio(subject: Subject, ours: Row | None, theirs: Row) -> str:
    """How many times better ringway is: above 1 is better, whichever way the figure counts."""
    if ours is None or not theirs[subject.figure] or not ours[subject.figure]:
        return ""
    value = ours[subject.figure] / theirs[subject.figure]
    return f"{1 / value if subject.less_is_better else value:.2f}"


def markdown(results: Mapping[str, Mapping[str, Row]]) -> str:
    """One table a subject, peers from best to worst."""
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    lines = ["# Results", "", INTRODUCTION, "", f"Machine: {where}.", ""]
    for subject in SUBJECTS:
        rows = results.get(subject.name)
        if rows:
            lines += table(subject, rows)
    return "\n".join(lines)


def table(subject: Subject, rows: Mapping[str, Row]) -> list[str]:
    ours = rows.get(OURS)
    columns = [key for key in next(iter(rows.values())) if key in FIGURES or key.startswith("kib_")]
    generator = ["generator"] if "cpu" in next(iter(rows.values())) else []
    head = ["server", *columns, "ratio", *generator, "load", "rounds"]
    lines = [f"## {subject.name}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    ordered = sorted(rows.items(), key=lambda item: item[1][subject.figure], reverse=not subject.less_is_better)
    for name, row in ordered:
        cells = [f"{row[c]:,.0f}" if c == "per_s" else f"{row[c]:g}" for c in columns]
        cells.append(ratio(subject, ours, row))
        cells += [f"{row['cpu']:.0%}"] if "cpu" in row else []
        cells += [f"{row['load']:.1f}", str(row["rounds"])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", f"![{subject.name}]({file_name(subject)})", ""]


def file_name(subject: Subject) -> str:
    letters = "".join(c if c.isalnum() else "-" for c in subject.name.lower())
    return "-".join(part for part in letters.split("-") if part) + ".svg"


def plot(subject: Subject, rows: Mapping[str, Row]) -> None:
    """A bar a peer, ringway's in colour."""
    import matplotlib  # only the report needs it

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "ringway"  # the same figures give the same file
    ordered = sorted(rows.items(), key=lambda item: item[1][subject.figure], reverse=subject.less_is_better)
    figure, axes = pyplot.subplots(figsize=(7, 0.42 * len(ordered) + 0.9), layout="constrained")
    values = [row[subject.figure] for _, row in ordered]
    colours = ["#0b7a75" if name == OURS else "#b8c4ce" for name, _ in ordered]
    bars = axes.barh([name for name, _ in ordered], values, color=colours)
    axes.bar_label(bars, labels=[f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in values], padding=3)
    axes.set_title(subject.name, loc="left", fontsize=10)
    axes.set_xlabel(subject.figure + (" (less is better)" if subject.less_is_better else ""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    figure.savefig(RESULTS / file_name(subject), metadata={"Date": None})
    pyplot.close(figure)
