"""`tests/vectors/close_codes.json` is the core's table, as JavaScript reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ringway.core.close_codes import OTHERWISE, RANGES, CloseCode, action_for, parse_reason

VECTOR = Path(__file__).parent.parent / "vectors" / "close_codes.json"
SAMPLES = (999, 1000, 1001, 1005, 1006, 1013, 3000, 3999, 4000, 4042, 4099, 4100, 4199, 4200, 4299, 4300, 4399, 4400)
REASONS = ("", "bye", '{"w":5000,"e":42}', '{"w":1.9}', '{"e":"7"}', '{"w":-5}', '{"w":"x","e":3}', "[1]", "null", "7")


def table() -> dict[str, Any]:
    return {
        "codes": {code.name: int(code) for code in CloseCode},
        "meanings": {code.name: code.meaning for code in CloseCode},
        "ranges": [[first, last, str(action)] for first, last, action in RANGES],
        "otherwise": str(OTHERWISE),
        "actions": {str(code): str(action_for(code)) for code in SAMPLES},
        "reasons": [[text, *parse_reason(text)] for text in REASONS],
    }


def test_the_vector_is_the_table_of_the_core() -> None:
    assert json.loads(VECTOR.read_text()) == table(), f"write the table to {VECTOR.name} anew"
