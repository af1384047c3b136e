"""`POST /send`, `/publish` and `/broadcast`, with an API key. Their bodies are the frames of the same names."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, Response

from ringway.core.errors import InvalidInput
from ringway.core.frames import FRAME_LIMIT, Broadcast, Publish, Send, client_frame

from .services import Services
from .web import asking, body, reply


def views(services: Services) -> Blueprint:
    part = Blueprint("push", __name__)

    @part.before_request
    def needs_a_key() -> None:
        services.api_keys.require(asking())

    @part.post("/send")
    def send() -> Response:
        frame = _frame("send", body())
        assert isinstance(frame, Send)
        services.metrics.pushes.labels("volatile" if frame.volatile else "send").inc(len(frame.to))
        if frame.volatile:
            services.push.send_volatile(frame.id, frame.to, frame.json)
            return reply({"id": frame.id, "to": len(frame.to)}, 202)
        done = services.push.send(frame.id, frame.to, frame.json)
        places = [
            {"uid": uid, "gen": at.gen, "seq": at.seq, "duplicate": at.duplicate}
            for uid, at in zip(frame.to, done, strict=True)
        ]
        return reply({"id": frame.id, "to": len(frame.to), "sent": places})

    @part.post("/publish")
    def publish() -> Response:
        frame = _frame("publish", body())
        assert isinstance(frame, Publish)
        services.metrics.pushes.labels("publish").inc()
        done = services.push.publish(frame.id, frame.group, frame.json)
        place = {"gen": done.gen, "seq": done.seq, "duplicate": done.duplicate}
        return reply({"id": frame.id, "group": frame.group} | place)

    @part.post("/broadcast")
    def broadcast() -> Response:
        frame = _frame("broadcast", body())
        assert isinstance(frame, Broadcast)
        services.metrics.pushes.labels("broadcast").inc()
        services.push.broadcast(frame.id, frame.json)
        return reply({"id": frame.id}, 202)

    return part


def _frame(kind: str, data: dict[str, Any]) -> Any:
    """The body as the client frame `kind`; without an id it gets one. Raises InvalidInput."""
    frame = client_frame({"id": uuid.uuid4().hex, **data, "t": kind})
    assert isinstance(frame, Send | Publish | Broadcast)
    if len(frame.json) > FRAME_LIMIT:
        rule = f"must be at most {FRAME_LIMIT} bytes of JSON"
        raise InvalidInput("body", f"{len(frame.json)} bytes", rule, "send less")
    return frame
