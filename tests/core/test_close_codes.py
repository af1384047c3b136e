"""The range decides, so a client obeys codes that were made after it."""

from __future__ import annotations

import pytest

from ringway.core.close_codes import (
    MAX_REASON_BYTES,
    MEANINGS,
    Action,
    CloseCode,
    Reason,
    action_for,
    parse_reason,
    reason_text,
)


@pytest.mark.parametrize(("code", "action"), [
    (1000, Action.STOP), (4000, Action.STOP), (4009, Action.STOP), (4099, Action.STOP),
    (4100, Action.BACK_OFF), (4199, Action.BACK_OFF),
    (4200, Action.RETRY_NODE), (4299, Action.RETRY_NODE),
    (4300, Action.RE_ROUTE), (4399, Action.RE_ROUTE),
    (1001, Action.RETRY_NODE), (1006, Action.RETRY_NODE), (1011, Action.RETRY_NODE), (1012, Action.RETRY_NODE),
    (1013, Action.RETRY_NODE), (3000, Action.RETRY_NODE), (4400, Action.RETRY_NODE), (0, Action.RETRY_NODE),
])
def test_the_action_of_a_code(code: int, action: Action) -> None:
    assert action_for(code) is action


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(CloseCode)
    assert CloseCode.MOVED.meaning == "the ring gave the user to another node"


def test_a_reason_fits_and_survives() -> None:
    text = reason_text(60_000, 2**53)
    assert len(text.encode()) <= MAX_REASON_BYTES
    assert parse_reason(text) == Reason(60_000, 2**53)


STRANGE = ["", "bye", "7", "[]", "null", '{"w":"x"}', '{"w":null}', '{"w":1e400}', '{"w":-5}', "\ud800"]


@pytest.mark.parametrize("text", STRANGE)
def test_a_strange_reason_is_no_wish(text: str) -> None:
    assert parse_reason(text) == Reason(0, 0)
