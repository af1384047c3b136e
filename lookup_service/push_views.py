"""`POST /send`, `/publish` and `/broadcast`, with an API key. Their bodies are the frames of the same names."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from flask import Blueprint, Response

from ringway.core.errors import InvalidInput
from ringway.core.frames import FRAME_LIMIT, Broadcast, Publish, Send, parse_client_frame

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
            services.push.send_volatile(frame.id, frame.to, frame.body)
            return reply({"id": frame.id, "to": len(frame.to)}, 202)
        done = services.push.send(frame.id, frame.to, frame.body)
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
        done = services.push.publish(frame.id, frame.group, frame.body)
        place = {"gen": done.gen, "seq": done.seq, "duplicate": done.duplicate}
        return reply({"id": frame.id, "group": frame.group} | place)

    @part.post("/broadcast")
    def broadcast() -> Response:
        frame = _frame("broadcast", body())
        assert isinstance(frame, Broadcast)
        services.metrics.pushes.labels("broadcast").inc()
        services.push.broadcast(frame.id, frame.body)
        return reply({"id": frame.id}, 202)

    return part


def _frame(kind: str, data: dict[str, Any]) -> Any:
    """The body as the client frame `kind`; without an id it gets one. Raises InvalidInput."""
    text = orjson.dumps({"id": uuid.uuid4().hex, **data, "t": kind})
    if len(orjson.dumps(data.get("body"))) > FRAME_LIMIT:
        raise InvalidInput("body", f"{len(text)} bytes", f"must be at most {FRAME_LIMIT} bytes of JSON", "send less")
    return parse_client_frame(text)
