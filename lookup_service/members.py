"""`/members` and `/groups`: who belongs to a group for good, with an API key."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ringway.core.errors import InvalidInput
from ringway.core.uids import validate_group, validate_uid

from .services import Services
from .web import asking, body, list_of, parameters, reply

MAX_UIDS = 1000


def views(services: Services) -> Blueprint:
    part = Blueprint("members", __name__)

    @part.before_request
    def needs_a_key() -> None:
        services.api_keys.require(asking())

    @part.post("/members")
    def change() -> Response:
        data = body()
        group, add, remove = validate_group(data.get("group")), _users(data, "add"), _users(data, "remove")
        if not add and not remove:
            raise InvalidInput("add", None, "must be there, or remove", "name the users to add or to remove")
        if both := set(add) & set(remove):
            raise InvalidInput("remove", min(both), "must not be in add as well", "name each user once")
        if remove:
            services.memberships.remove(group, remove)
        if add:
            services.memberships.add(group, add)
        return reply({"group": group, "added": len(add), "removed": len(remove)})

    @part.get("/members")
    def members() -> Response:
        group = validate_group(parameters().get("group"))
        return reply({"group": group, "members": services.memberships.members_of(group)})

    @part.get("/groups")
    def groups() -> Response:
        uid = validate_uid(parameters().get("uid"))
        return reply({"uid": uid, "groups": services.memberships.groups_of(uid)})

    return part


def _users(data: dict[str, Any], name: str) -> list[str]:
    """The users under a name, which may be missing. Raises InvalidInput."""
    return [validate_uid(uid, name) for uid in list_of(data, name, MAX_UIDS)] if name in data else []
