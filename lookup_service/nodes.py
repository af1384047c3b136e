"""`/nodes`: what the ring and the nodes themselves say of each node; and the operator's word to one."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ringway.core.members import State

from .answers import Refusal
from .services import Services
from .web import asking, reply


def views(services: Services) -> Blueprint:
    part = Blueprint("nodes", __name__)

    @part.get("/nodes")
    def nodes() -> Response:
        return reply({"nodes": services.nodes()} | services.staleness())

    @part.post("/nodes/<node>/drain")
    def drain(node: str) -> Response:
        services.api_keys.require(asking())
        return reply(_drain(services, node), 202)

    return part


def _drain(services: Services, node: str) -> dict[str, Any]:
    """Ask a node to drain: it leaves the ring, moves its sessions and exits."""
    latest = services.rings.latest
    member = latest.view.member(node) if latest else None
    if member is None:
        raise Refusal(404, "unknown_node", f"no node is called {node[:64]!r}; GET /nodes lists them")
    if member.state is not State.DRAINING:
        services.push.order(node, "drain")
    return {"node": node, "state": State.DRAINING.value, "was": member.state.value}
