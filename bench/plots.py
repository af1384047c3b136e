"""Plots of results, as SVG: the same figures give the same file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .subjects import OURS, Row, Subject

OURS_COLOUR, OTHER_COLOUR = "#0b7a75", "#b8c4ce"
OTHER_COLOURS = ("#5b6b79", "#c58b2a", "#8a5aa8", "#b4504c", "#4c78a8", "#9aa5ae", "#6c8f3c", "#c27ba0")


def file_name(name: str) -> str:
    letters = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in letters.split("-") if part) + ".svg"


def _pyplot() -> Any:
    import matplotlib  # only the report needs it, and it is slow to import

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ringway"
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size
    from matplotlib import pyplot

    return pyplot


def bars(folder: Path, subject: Subject, rows: Mapping[str, Row]) -> None:
    """A bar a peer, ringway's in colour."""
    rows = {name: row for name, row in rows.items() if subject.figure in row}
    if not rows:
        return
    pyplot = _pyplot()
    ordered = sorted(rows.items(), key=lambda item: float(item[1][subject.figure]), reverse=subject.less_is_better)
    figure, axes = pyplot.subplots(figsize=(7, 0.42 * len(ordered) + 0.9), layout="constrained")
    values = [row[subject.figure] for _, row in ordered]
    colours = [OURS_COLOUR if name == OURS else OTHER_COLOUR for name, _ in ordered]
    drawn = axes.barh([name for name, _ in ordered], values, color=colours)
    axes.bar_label(drawn, labels=[f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in values], padding=3)
    axes.set_title(subject.name, loc="left", fontsize=10)
    axes.set_xlabel(subject.figure + (" (less is better)" if subject.less_is_better else ""))
    axes.margins(x=0.15)
    _save(pyplot, figure, axes, folder / file_name(subject.name))


def lines(
    folder: Path, name: str, title: str, x: str, y: str, series: Mapping[str, Mapping[int, float]]
) -> None:
    """A line a peer over sizes, both axes logarithmic: a cost that does not depend on the size is level."""
    if not series:
        return
    pyplot = _pyplot()
    from matplotlib import ticker

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for number, (peer, values) in enumerate(series.items()):
        colour = OURS_COLOUR if peer == OURS else OTHER_COLOURS[number % len(OTHER_COLOURS)]
        axes.plot(list(values), list(values.values()), "o-", label=peer, color=colour,
                  linewidth=2.5 if peer == OURS else 1.2)
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda number, _at: f"{number:,g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=8, frameon=False)
    _save(pyplot, figure, axes, folder / file_name(name))


def _save(pyplot: Any, figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
