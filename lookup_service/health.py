"""`/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from .metrics import CONTENT_TYPE
from .services import Services
from .web import reply


def views(services: Services) -> Blueprint:
    part = Blueprint("health", __name__)

    @part.get("/livez")
    def livez() -> Response:
        """The process answers."""
        return reply({"ok": True})

    @part.get("/readyz")
    def readyz() -> Response:
        """Whether routes can be answered. That ZooKeeper or Redis is away is said, but sends no clients elsewhere."""
        latest = services.rings.latest
        ready = latest is not None and len(latest.view.ring) > 0
        said: dict[str, Any] = {
            "ready": ready,
            "ring": str(latest.view.version) if latest else None,
            "zookeeper": services.zk.connected,
            "redis": services.redis_up,
            "down": sorted(services.softdown.down),
            "documents_dropped": dict(services.reader.alarms),
        }
        if services.zk.problem:
            said["zookeeper_problem"] = services.zk.problem
        return reply(said | services.staleness(), 200 if ready else 503)

    @part.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics.text(), content_type=CONTENT_TYPE)

    return part
