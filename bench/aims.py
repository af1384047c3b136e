"""What the figures are wanted to be, so that each run says which of them it has reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .subjects import CEILING, GROWTH, OURS, Row, echo_name

Results = Mapping[str, Mapping[str, Row]]
ONE, TEN = echo_name(100, 1, 64), echo_name(100, 10, 64)
TEN_APART = TEN + ", a write each"
STOCK, PICOWS, NODE = "flask-sock", "picows+uvloop", "node ws"


@dataclass(frozen=True)
class Aim:
    """`measure` gives None where what it needs was not measured."""

    what: str
    bound: float
    measure: Callable[[Results], float | None]
    at_most: bool = False
    unit: str = ""


def value(results: Results, subject: str, peer: str, figure: str) -> float | None:
    found = results.get(subject, {}).get(peer, {}).get(figure)
    return None if found is None else float(found)


def over(
    subject: str, peer: str, figure: str = "per_s", *, of: str = OURS
) -> Callable[[Results], float | None]:
    """ringway's figure (`of`: another's) over a peer's."""

    def measure(results: Results) -> float | None:
        ours, theirs = value(results, subject, of, figure), value(results, subject, peer, figure)
        return None if ours is None or not theirs else ours / theirs

    return measure


def inverse(measure: Callable[[Results], float | None]) -> Callable[[Results], float | None]:
    """Where less is better."""

    def inverted(results: Results) -> float | None:
        value = measure(results)
        return 1 / value if value else None

    return inverted


def ours(subject: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: value(results, subject, OURS, figure)


def grown(results: Results, peer: str = OURS) -> float | None:
    """Cost of a message with most connections over that with fewest."""
    few, many = (value(results, echo_name(n, 1, 64), peer, "server_us") for n in (GROWTH[0], GROWTH[-1]))
    return None if many is None or not few else many / few


def grown_by_itself(results: Results) -> float | None:
    """The same, without what grows for the kernel too: over the ceiling's."""
    ours, kernels = grown(results), grown(results, CEILING)
    return None if ours is None or not kernels else ours / kernels


def beside(results: Results) -> float | None:
    """p99 of the others beside slow readers, over the p99 without."""
    with_them, alone = (value(results, "echo beside slow readers", OURS, f) for f in ("p99_ms", "p99_alone_ms"))
    return None if with_them is None or not alone else with_them / alone


# What a server that only echoes reaches: no design gets past it.
ATTAINABLE = over(ONE, STOCK, of=CEILING)
AIMS = (
    Aim("echo, 1 in flight, over flask-sock", 6, over(ONE, STOCK)),
    Aim("echo, 1 in flight, over the ceiling", 0.8, over(ONE, CEILING)),
    Aim("echo, 1 in flight, over node ws", 1.3, over(ONE, NODE)),
    Aim("echo, 1 in flight, over picows", 1, over(ONE, PICOWS)),
    Aim("echo, 1 in flight, p99 over picows'", 1, over(ONE, PICOWS, "p99_ms"), at_most=True),
    Aim("echo, 10 in flight, over picows", 1, over(TEN, PICOWS)),
    Aim("the same with a write for each message, over picows", 1, over(TEN_APART, PICOWS)),
    Aim("handshakes with a ticket, over flask-sock", 5, over("handshakes", STOCK)),
    Aim("handshakes with a ticket, over picows", 0.8, over("handshakes", PICOWS)),
    Aim("the same, processor time", 0.8, inverse(over("handshakes", PICOWS, "server_us"))),
    Aim("memory of an idle session at 18,000", 4, ours("memory per idle connection", "kib_18000"), True, " KiB"),
    Aim("core for 10,000 idle sessions with pings", 3,
        ours("10,000 idle connections, pings every 25 s", "core_percent"), True, " %"),
    Aim("fan-out to 5,000, over a bare loop of sends", 0.8, over("fan-out to 5000", "bare loop of sends")),
    Aim("signed routes, over the Flask app on pywsgi", 6, over("signed routes", "the same Flask app on pywsgi")),
    Aim("p99 beside slow readers, over p99 without", 1.2, beside, at_most=True),
    Aim("cost of a message, 10,000 connections over 100", 1.25, grown, at_most=True),
    Aim("the same, over what it is for the ceiling (the kernel's share of it)", 1.1, grown_by_itself, at_most=True),
)
