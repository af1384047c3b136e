from __future__ import annotations

import orjson
import pytest

from ringway.core.errors import InvalidInput, NoActiveMember, Unavailable
from ringway.lookup_service.answers import Refusal, ok, refusal, retry_after


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput("uid", "x", "rule", "remedy", code="bad_uid"), 400, "bad_uid"),
        (NoActiveMember(), 503, "no_active_member"),
        (Unavailable("redis"), 503, "unavailable"),
        (Refusal(418, "teapot", "short and stout"), 418, "teapot"),
        (ZeroDivisionError("inner"), 500, "internal"),
    ],
)
def test_every_error_has_a_status_and_the_one_form(error: Exception, status: int, code: str) -> None:
    answer = refusal(error)
    assert (answer.status, answer.outcome) == (status, code)
    body = orjson.loads(answer.body)
    assert set(body) == {"error", "message"}
    assert body["error"] == code
    assert "inner" not in body["message"]
    assert ("Retry-After" in dict(answer.headers)) == (status == 503)


def test_retry_after_is_whole_seconds_and_spread() -> None:
    chances = iter([0.0, 0.5, 0.999, 0.0, 0.0, 0.999])
    wanted = [1.0, 1.0, 1.0, 0.0, 10.0, 10.0]
    assert [retry_after(seconds, lambda: next(chances)) for seconds in wanted] == [1, 2, 3, 1, 10, 21]


def test_answers_are_not_cached() -> None:
    assert ("Cache-Control", "no-store") in ok({"a": 1}).headers
    assert ("Cache-Control", "no-store") in refusal(NoActiveMember()).headers
