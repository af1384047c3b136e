"""Members of groups over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.lookup_service.conftest import API_KEY

KEY = {"Authorization": f"Bearer {API_KEY}"}


def test_users_are_added_removed_and_listed(client: FlaskClient) -> None:
    answer = client.post("/members", json={"group": "team a", "add": ["ann", "bob", "用户7"]}, headers=KEY)
    assert (answer.status_code, answer.json) == (200, {"group": "team a", "added": 3, "removed": 0})
    client.post("/members", json={"group": "team a", "add": ["eve"], "remove": ["bob", "nobody"]}, headers=KEY)
    client.post("/members", json={"group": "all", "add": ["ann"]}, headers=KEY)
    assert client.get("/members?group=team%20a", headers=KEY).json == {
        "group": "team a", "members": ["ann", "eve", "用户7"],
    }  # fmt: skip
    assert client.get("/groups?uid=ann", headers=KEY).json == {"uid": "ann", "groups": ["all", "team a"]}
    assert client.get("/members?group=none", headers=KEY).json == {"group": "none", "members": []}


@pytest.mark.parametrize(("body", "field", "rule"), [
    ({"add": ["ann"]}, "group", "must be 1 to 256 bytes"),
    ({"group": "", "add": ["ann"]}, "group", "must be 1 to 256 bytes"),
    ({"group": "team"}, "add", "must be there, or remove"),
    ({"group": "team", "add": []}, "add", "must be a list of 1 to 1000 entries"),
    ({"group": "team", "add": "ann"}, "add", "must be a list of 1 to 1000 entries"),
    ({"group": "team", "remove": ["a"] * 1001}, "remove", "must be a list of 1 to 1000 entries"),
    ({"group": "team", "add": ["ann", 7]}, "add", "must be 1 to 256 bytes"),
    ({"group": "team", "add": ["ann"], "remove": ["ann"]}, "remove", "must not be in add as well"),
])  # fmt: skip
def test_bad_changes_say_value_rule_and_remedy_and_change_nothing(
    client: FlaskClient, body: dict[str, Any], field: str, rule: str
) -> None:
    answer = client.post("/members", json=body, headers=KEY)
    assert answer.status_code == 400
    message = answer.json["message"]  # type: ignore[index]
    assert message.startswith(f"{field}=")
    assert rule in message
    assert client.get("/members?group=team", headers=KEY).json["members"] == []  # type: ignore[index]


@pytest.mark.parametrize("path", ["/members", "/members?group=", "/groups", "/groups?uid=a%00", "/groups?uid=a&uid=b"])
def test_bad_questions_are_400(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers=KEY).status_code == 400


def test_only_back_ends_may_ask_and_change(client: FlaskClient) -> None:
    assert client.post("/members", json={"group": "team", "add": ["ann"]}).status_code == 401
    assert client.get("/members?group=team").status_code == 401
    assert client.get("/groups?uid=ann").status_code == 401
