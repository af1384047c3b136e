"""Positions: the shared scenarios, and that no order of frames delivers twice or hides a loss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringway.client_sdk.positions import Gap, Positions, Verdict
from ringway.core.frames import Position

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "positions.json").read_text())


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Position):
        return {"gen": value.gen, "seq": value.seq}
    if isinstance(value, Gap):
        return {**asdict(value), "had": plain(value.had)}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("scenario", VECTORS, ids=lambda scenario: scenario["name"])
def test_scenario(scenario: dict[str, Any]) -> None:
    positions = Positions(scenario["saved"])
    for number, call in enumerate(scenario["steps"]):
        args = [Position(**arg) if call["call"] == "start" and isinstance(arg, dict) else arg for arg in call["args"]]
        got = plain(getattr(positions, call["call"])(*args))
        assert got == call["gives"], f"step {number}: {call['call']}"


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(1, 12)), max_size=60))
def test_whatever_order_frames_come_in_each_is_taken_once_in_order_or_a_gap_is_told(
    frames: list[tuple[str, int]],
) -> None:
    positions = Positions()
    taken: list[tuple[str, int]] = []
    for gen, seq in frames:
        verdict, gap = positions.take("u:a", gen, seq)
        if verdict is Verdict.NEW:
            follows = not taken or taken[-1] == (gen, seq - 1)
            assert follows or gap is not None
            taken.append((gen, seq))
        else:
            assert gap is None
    assert len(set(taken)) == len(taken)
    for gen in ("one", "two"):
        seqs = [seq for each, seq in taken if each == gen]
        assert seqs == sorted(seqs)
