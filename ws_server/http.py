"""The node's HTTP side: the application's Flask object with the three endpoints of every service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST

from . import metrics
from .status import readiness

if TYPE_CHECKING:
    from .parts import Parts


def liveness(node: Parts) -> dict[str, Any]:
    """What /livez says: the process answers; which boot of which node it is."""
    return {"ok": True, "node": node.id, "boot_id": node.boot_id}


def flask_app(node: Parts) -> Flask:
    """A Flask application to which the node's application adds its own routes."""
    app = Flask("ringway.node", static_folder=None)
    registry = metrics.registry(node)

    @app.get("/livez")
    def livez() -> dict[str, Any]:
        """The acceptor says the same where there is no room for another request."""
        return liveness(node)

    @app.get("/readyz")
    def readyz() -> tuple[dict[str, Any], int]:
        """Whether clients are well off here, and if not, why."""
        said = readiness(node)
        return said, 200 if said["ready"] else 503

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics.text(registry), content_type=CONTENT_TYPE_LATEST)

    return app
