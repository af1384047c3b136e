"""`/ring`, the document, and `/ring/preview`, what a change would do before anybody makes it."""

from __future__ import annotations

import threading

from flask import Blueprint, Response, request

from ringway.core.errors import ConfigError, InvalidInput
from ringway.core.members import DEFAULT_VNODES, validate_vnodes
from ringway.core.uids import validate_node_id

from . import query
from .orders import accept_losses
from .preview import Wanted, preview
from .rings import Current
from .services import Services
from .web import asking, parameters, reply


def views(services: Services) -> Blueprint:
    part = Blueprint("ring", __name__)
    one_preview = threading.Lock()

    @part.get("/ring")
    def ring() -> Response:
        current = services.rings.current()
        tag = f"{current.view.version}"
        known = tag in request.if_none_match
        answer = Response(status=304) if known else reply(current.public | services.staleness())
        answer.set_etag(tag)
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    @part.get("/ring/preview")
    def ring_preview() -> Response:
        wanted = _wanted(services.rings.current())
        with one_preview:  # it reads every session's uid: one at a time, or a few clicks would load Redis
            current = services.rings.current()
            return reply(preview(current.view, wanted, services.presence.users()))

    @part.post("/ring/accept-losses")
    def losses() -> Response:
        """The operator's word that every missing node is dead, where the mass-loss guard holds nodes in the ring."""
        services.api_keys.require(asking())
        accept_losses(services.zk)
        return reply({"accepted": True}, 202)

    return part


def _wanted(current: Current) -> Wanted:
    """Raises InvalidInput."""
    given = parameters()
    add, remove = (_ids(given, name) for name in ("add", "remove"))
    vnodes = query.text("vnodes", given.get("vnodes"), str(DEFAULT_VNODES))
    if not (vnodes.isascii() and vnodes.isdecimal()):
        raise InvalidInput("vnodes", vnodes, "must be a whole number", "leave it out for the default")
    unknown = set(remove) - current.view.ring.weights.keys()
    if unknown:
        raise InvalidInput("remove", sorted(unknown), "is not an active node", "name one that GET /nodes lists")
    if not add and not remove:
        raise InvalidInput("add", None, "nothing is added or removed", "give add=<node> or remove=<node>")
    if not current.view.ring.weights.keys() - set(remove) | set(add):
        raise InvalidInput("remove", ",".join(remove), "would leave no node at all", "keep one")
    try:
        return Wanted(add, remove, validate_vnodes(int(vnodes)))
    except ConfigError as error:
        raise InvalidInput("vnodes", vnodes, error.rule, "leave it out for the default") from None


def _ids(given: dict[str, bytes], name: str) -> tuple[str, ...]:
    ids = tuple(filter(None, query.text(name, given.get(name)).split(",")))
    try:
        return tuple(validate_node_id(node) for node in ids)
    except ConfigError as error:
        raise InvalidInput(name, error.value, error.rule, "give node ids, separated by commas") from None
