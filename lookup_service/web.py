"""Between Flask and the parts: JSON in and out, who asks, and the dashboard's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Response, request, send_from_directory

from ringway.core.errors import InvalidInput

from . import query
from .answers import Answer, Refusal, ok
from .auth import AuthRequest
from .services import Services

DASHBOARD = Path(__file__).parent / "dashboard"
# The page needs nothing but itself: no script of another origin could run even if a node's name were made of HTML.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # fmt: skip


def views(services: Services) -> Blueprint:
    """`/` and the dashboard's files."""
    part = Blueprint("dashboard", __name__)

    @part.get("/")
    def dashboard() -> Response:
        return _file("index.html")

    @part.get("/dashboard/<path:name>")
    def file(name: str) -> Response:
        return _file(name)

    return part


def _file(name: str) -> Response:
    answer = send_from_directory(DASHBOARD, name, max_age=60)
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, list(answer.headers))


def reply(data: Any, status: int = 200) -> Response:
    return response(ok(data)._replace(status=status))


def asking(uid: str | None = None) -> AuthRequest:
    """The current request, for authenticators and API keys."""
    return AuthRequest(uid, request.environ)


def parameters() -> dict[str, bytes]:
    """The query, decoded strictly. Raises InvalidInput."""
    return query.parameters(request.environ.get("QUERY_STRING", ""))


def parameter_list(name: str) -> list[bytes]:
    """All values of a parameter that may be given several times. Raises InvalidInput."""
    return [value for key, value in query.pairs(request.environ.get("QUERY_STRING", "")) if key == name]


def body() -> dict[str, Any]:
    """The request's JSON object.

    A page of another origin can send text without asking first, but not `application/json`, so requiring it keeps
    pages in the browser of somebody on this network from pushing messages.

    Raises:
        Refusal: 415. InvalidInput: not a JSON object.
    """
    if request.mimetype != "application/json":
        raise Refusal(415, "unsupported_media_type", "send JSON, with the header 'Content-Type: application/json'")
    raw = request.get_data(cache=False)
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body", raw[:80], f"must be JSON ({error})", "send an object", code="bad_json") from None
    if not isinstance(data, dict):
        raise InvalidInput("body", data, "must be a JSON object", "send {...}", code="bad_json")
    return data


def list_of(data: dict[str, Any], name: str, limit: int) -> list[Any]:
    """A list of 1 to `limit` entries in a JSON object. Raises InvalidInput."""
    value = data.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        raise InvalidInput(name, value, f"must be a list of 1 to {limit} entries", "send them in several requests")
    return value
