"""`/route` under Flask (any method but the fast path's GET, and tests), and `POST /routes`."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from ringway.core.errors import RingwayError
from ringway.core.members import Version
from ringway.core.uids import validate_uid

from .answers import as_error
from .routing import RouteQuery
from .services import Services
from .web import asking, body, list_of, reply, response

MAX_UIDS = 1000


def views(services: Services) -> Blueprint:
    part = Blueprint("routes", __name__)

    @part.get("/route")
    def route() -> Response:
        return response(services.router.answer(request.environ))

    @part.post("/routes")
    def routes() -> Response:
        asked = body()
        uids = list_of(asked, "uids", MAX_UIDS)
        wanted = asked.get("min_epoch")
        version = Version.parse(str(wanted), "min_epoch") if wanted is not None else None
        return reply({"routes": [_one(services, uid, version) for uid in uids]})

    return part


def _one(services: Services, uid: Any, version: Version | None) -> dict[str, Any]:
    """A route, or the error that `GET /route` would have given for this uid."""
    try:
        asked = RouteQuery(validate_uid(uid), version)
        return services.router.route(asked, services.authenticate(asking(asked.uid)))
    except RingwayError as error:
        return {"uid": uid, **as_error(error)}
