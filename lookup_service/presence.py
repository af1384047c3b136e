"""`/presence`, who is connected where, and `/unread`, what waits for a user."""

from __future__ import annotations

from flask import Blueprint, Response

from ringway.core.errors import InvalidInput
from ringway.core.uids import validate_group, validate_uid
from ringway.store.keys import group_log, inbox

from .auth import allow
from .services import Services
from .web import asking, body, list_of, parameter_list, reply

MAX_UIDS = 1000


def views(services: Services) -> Blueprint:
    part = Blueprint("presence", __name__)

    @part.get("/presence")
    def presence() -> Response:
        services.api_keys.require(asking())
        return reply(_presence(services, parameter_list("uid")))

    @part.post("/presence")
    def presence_of_many() -> Response:
        services.api_keys.require(asking())
        return reply(_presence(services, list_of(body(), "uids", MAX_UIDS)))

    @part.get("/unread")
    def unread() -> Response:
        uid = validate_uid(next(iter(parameter_list("uid")), None))
        if not services.api_keys.holds(asking(uid)):
            allow(services.authenticate(asking(uid)), uid)
        groups = [validate_group(group) for group in parameter_list("group")]
        counts = services.log.unread(uid, [inbox(uid), *map(group_log, groups)])
        inboxed, *others = counts
        return reply({"uid": uid, "unread": inboxed, "groups": dict(zip(groups, others, strict=True))})

    return part


def _presence(services: Services, given: list[bytes] | list[str]) -> dict[str, object]:
    if not 1 <= len(given) <= MAX_UIDS:
        raise InvalidInput("uid", f"{len(given)} times", f"must be given 1 to {MAX_UIDS} times", "ask for some users")
    where = services.presence.where([validate_uid(uid) for uid in given])
    users = [{"uid": uid, "online": node is not None, "node": node} for uid, node in where.items()]
    return {"users": users}
