"""The Flask application: every endpoint but the fast path of `/route`, one error format, CORS."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from . import event_views, health, members, nodes, presence, push_views, ring_views, route_views, web
from .answers import Refusal, refusal
from .cors import SHARED
from .services import Services
from .web import response

MAX_BODY = 2 * 1024 * 1024
REMEDIES = {
    404: "docs/http-api.md lists the endpoints",
    405: "this endpoint has another method",
    413: f"send at most {MAX_BODY} bytes; split the request",
}


def create_app(services: Services) -> Flask:
    """The WSGI application for started services."""
    app = Flask("ringway.lookup_service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.strict_slashes = False
    for part in (route_views, ring_views, nodes, push_views, members, presence, event_views, health, web):
        app.register_blueprint(part.views(services))
    app.register_error_handler(Exception, lambda error: _refused(services, error))
    app.before_request(lambda: _preflight(services))
    app.before_request(_no_foreign_page)
    app.after_request(lambda answer: _with_cors(services, answer))
    return app


def _refused(services: Services, error: Exception) -> Response:
    """Every error in the one format, those of Flask's own too."""
    headers: list[tuple[str, str]] = []
    if isinstance(error, HTTPException):
        headers = [(name, value) for name, value in error.get_headers() if name == "Allow"]
        error = _from_flask(error)
    answer = refusal(error)
    services.metrics.refused(answer.outcome)
    made = response(answer)
    made.headers.extend(headers)
    return made


def _from_flask(error: HTTPException) -> Refusal:
    status = error.code or 500
    code = (error.name or "error").lower().replace(" ", "_")
    remedy = REMEDIES.get(status, "look at the request")
    return Refusal(status, code, f"{request.method} {request.path[:200]}: {error.name}; {remedy}")


def _preflight(services: Services) -> Response | None:
    """Answer a browser's question before its request (Fetch standard, CORS-preflight)."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    answer = Response(status=204)
    answer.headers.extend(services.cors.preflight(request.path, request.headers.get("Origin")))
    return answer


def _no_foreign_page() -> None:
    """A page of another site must not give orders through the browser of somebody who can reach this service. It may
    send a POST without asking first, and where no keys are set nothing else would stop it."""
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin and request.path not in SHARED and urlsplit(origin).netloc != request.host:
        raise Refusal(403, "foreign_origin", f"pages of {origin[:200]} may not do this; call it from a back end")


def _with_cors(services: Services, answer: Response) -> Response:
    if request.method != "OPTIONS":
        answer.headers.extend(services.cors.headers(request.path, request.headers.get("Origin")))
    return answer
