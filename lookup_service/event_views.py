"""`GET /events` over HTTP; `events.py` has the hub."""

from __future__ import annotations

from flask import Blueprint, Response, request

from .services import Services


def views(services: Services) -> Blueprint:
    part = Blueprint("events", __name__)

    @part.get("/events")
    def events() -> Response:
        frames = services.hub.listen(request.headers.get("Last-Event-ID"), services.greeting)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # or nginx would hold events back
        return Response(frames, content_type="text/event-stream; charset=utf-8", headers=headers)

    return part
