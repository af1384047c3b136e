"""A run as one HTML page without outside parts: verdict, faults, plots, what is missing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from .plot import Band, Line, number, plot
from .run import Run, Sample

STYLE = """
:root { color-scheme: light dark; --a: #2a6fdb; --b: #d9822b; --ink: light-dark(#222, #ddd);
  --paper: light-dark(#fff, #16181c); --faint: light-dark(#ddd, #333);
  --bad: light-dark(#b00020, #ff6b7d); --good: light-dark(#14713c, #58c98b); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 900px; margin: 2em auto; padding: 0 1em; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--ink); }
polyline { fill: none; stroke-width: 1.6; } .grid { stroke: var(--faint); } .fault { fill: var(--bad); opacity: .13; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15em 1.2em .15em 0; border-bottom: 1px solid var(--faint); }
.good { color: var(--good); } .bad { color: var(--bad); } .a { color: var(--a); } .b { color: var(--b); }
pre { white-space: pre-wrap; }
"""
OUTAGE_STEPS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def page(run: Run, title: str) -> str:
    """The report. `title`: what was run."""
    good = run.ok
    verdict = "Nothing lost, doubled or out of order" if good else "The promise was broken"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<h2 class="{"good" if good else "bad"}">{verdict}</h2>',
        f"<pre>{escape(chr(10).join(run.lines()))}</pre>",
        _faults(run), *_plots(run), _outages(run), _moves(run),
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return "\n".join([head, *parts, "</html>", ""])


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["<table><tr>", *(f"<th>{escape(cell)}</th>" for cell in header), "</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>")
    return "".join([*lines, "</table>"])


def _faults(run: Run) -> str:
    if not run.strikes:
        return "<p>No faults.</p>"
    rows = [(strike.name, f"{strike.start:.1f} s", "-" if strike.end is None else f"{strike.end:.1f} s",
             strike.error or "done") for strike in run.strikes]
    return "<h2>Faults</h2>" + _table(("fault", "from", "to", ""), rows)


def _plots(run: Run) -> list[str]:
    end = run.samples[-1].at if run.samples else run.seconds
    bands = [Band(strike.name, strike.start, strike.end or end) for strike in run.strikes]

    def figure(name: str, unit: str, *lines: Line) -> str:
        legend = ", ".join(f'<span class="{line.color[2:]}">{escape(line.name)}</span>' for line in lines)
        return f"<h2>{escape(name)}</h2><p>{legend}</p>{plot(lines, bands, end, unit)}"

    samples = run.samples
    return [
        figure("Connected", "clients", Line("with an open connection", "--a", [(s.at, s.open) for s in samples])),
        figure("Messages", "per second", Line("delivered", "--a", _rates(samples, "delivered")),
               Line("sent", "--b", _rates(samples, "sent"))),
        figure("Under way", "messages", Line("owed to readers", "--a", [(s.at, s.owing) for s in samples]),
               Line("without ok", "--b", [(s.at, s.unanswered) for s in samples])),
        figure("Send to delivery", "ms", Line("p99 of half a second", "--a",
                                              [(s.at, s.p99_s * 1000) for s in samples])),
    ]


def _rates(samples: Sequence[Sample], field: str) -> list[tuple[float, float]]:
    """What was counted between two samples, per second."""
    return [(s.at, getattr(s, field) / max(s.at - before.at, 0.001)) for before, s in pairwise(samples)]


def _outages(run: Run) -> str:
    """How many outages lasted at most so long."""
    seconds = [outage.seconds for outage in run.verdict.outages]
    if not seconds:
        return "<h2>Without a connection</h2><p>Nobody, not for a moment.</p>"
    rows = []
    low = 0.0
    for high in (*OUTAGE_STEPS_S, float("inf")):
        if count := sum(low < value <= high for value in seconds):
            rows.append((f"{low:g} to {high:g} s" if high < float("inf") else f"over {low:g} s", number(count)))
        low = high
    return "<h2>Without a connection</h2>" + _table(("for", "outages"), rows)


def _moves(run: Run) -> str:
    counts = Counter(run.hops.values())
    rows = [(times, number(counts[times])) for times in sorted(counts)]
    return "<h2>Changes of node</h2>" + _table(("times", "clients"), rows)
