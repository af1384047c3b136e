"""`/nodes`: what the ring and the nodes themselves say of each node; and the operator's orders to them."""

from __future__ import annotations

from flask import Blueprint, Response

from ringway.core.errors import InvalidInput
from ringway.core.members import Member, State
from ringway.core.uids import validate_uid

from .answers import Refusal
from .services import Services
from .web import asking, body, reply


def views(services: Services) -> Blueprint:
    part = Blueprint("nodes", __name__)

    @part.get("/nodes")
    def nodes() -> Response:
        gone = [member.as_json() for member in services.gone.members]
        said = {"nodes": services.nodes(), "waiting": services.waiting(), "gone": gone}
        return reply(said | services.staleness())

    @part.post("/nodes/<node>/drain")
    def drain(node: str) -> Response:
        """Ask a node to drain: it leaves the ring, moves its sessions and exits."""
        services.api_keys.require(asking())
        member = _member(services, node)
        if member.state is not State.DRAINING:
            services.push.order(node, "drain")
        return reply({"node": node, "state": State.DRAINING.value, "was": member.state.value}, 202)

    @part.post("/nodes/<node>/rebalance")
    def rebalance(node: str) -> Response:
        """Ask a node to move the sessions that it does not own; for clusters whose joins move nobody."""
        services.api_keys.require(asking())
        services.push.order(_member(services, node).id, "rebalance")
        return reply({"node": node}, 202)

    @part.post("/close")
    def close() -> Response:
        """End a user's sessions, wherever they are: for good (`sign_out`), or so that their clients come back."""
        services.api_keys.require(asking())
        data = body()
        uid, sign_out = validate_uid(data.get("uid")), data.get("sign_out", False)
        if not isinstance(sign_out, bool):
            raise InvalidInput("sign_out", sign_out, "must be true or false", "leave it out to let them come back")
        services.push.order_all("sign_out" if sign_out else "close", uid=uid)
        return reply({"uid": uid, "sign_out": sign_out}, 202)

    return part


def _member(services: Services, node: str) -> Member:
    """Raises Refusal: 404 for a node that is not in the ring document."""
    latest = services.rings.latest
    member = latest.view.member(node) if latest else None
    if member is None:
        raise Refusal(404, "unknown_node", f"no node is called {node[:64]!r}; GET /nodes lists them")
    return member
