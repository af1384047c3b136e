"""What the lookup answers with: JSON, and errors always as `{"error": code, "message": text}`.

`refusal` is the one place where an exception becomes a status, so that Flask's views, the fast path before Flask and
the parts of a `POST /routes` answer agree.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from ringway.core.errors import AccessDenied, InvalidInput, NoActiveMember, RingwayError, Unavailable

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]
JSON_TYPE: Headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
BEARER = 'Bearer realm="ringway"'


class Answer(NamedTuple):
    """Status, headers and body of one HTTP answer; `outcome` is what the metrics count it as."""

    status: int
    headers: Headers
    body: bytes
    outcome: str = "ok"


class Refusal(RingwayError):
    """A request that is answered with an error status.

    Args:
        retry_after: seconds after which trying again may work; sent with jitter.
        challenge: the value of WWW-Authenticate.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: float | None = None, challenge: str | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.challenge = retry_after, challenge

    def __str__(self) -> str:
        return self.message


def ok(data: Any, outcome: str = "ok") -> Answer:
    return Answer(200, JSON_TYPE, orjson.dumps(data), outcome)


def refusal(error: Exception, jitter: Callable[[], float] = random.random) -> Answer:
    """The answer for any error; an unforeseen one is logged here and shown to nobody."""
    refused = _classified(error)
    headers = list(JSON_TYPE)
    if refused.retry_after is not None:
        headers.append(("Retry-After", str(retry_after(refused.retry_after, jitter))))
    if refused.challenge:
        headers.append(("WWW-Authenticate", refused.challenge))
    return Answer(refused.status, tuple(headers), orjson.dumps(as_error(refused)), refused.code)


def as_error(error: Exception) -> dict[str, str]:
    refused = _classified(error)
    return {"error": refused.code, "message": refused.message}


def retry_after(wanted_s: float, jitter: Callable[[], float] = random.random) -> int:
    """Whole seconds (RFC 9110 10.2.3 has no others), between the wanted time and twice as much plus one, so that
    refused clients do not come back together."""
    return max(1, math.floor(wanted_s + jitter() * (wanted_s + 1) + 0.5))


def _classified(error: Exception) -> Refusal:
    match error:
        case Refusal():
            return error
        case InvalidInput():
            return Refusal(400, error.code, str(error))
        case NoActiveMember():
            return Refusal(503, "no_active_member", str(error), retry_after=1.0)
        case AccessDenied():
            return Refusal(503, "unavailable", str(error))
        case Unavailable():
            return Refusal(503, "unavailable", str(error), retry_after=error.retry_after)
    log.error("a request failed", exc_info=error)
    return Refusal(500, "internal", "the lookup service failed on this request; its log says why")
