"""What a node would refuse is refused at once, by the same rules in both languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ringway.client_sdk.conversation import Conversation
from ringway.core.errors import InvalidInput
from ringway.core.frames import parse_client_frame

from .test_conversation import INBOX, Note

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "sayings.json").read_text())


def nested(levels: int) -> list[Any]:
    body: list[Any] = []
    for _ in range(levels - 1):
        body = [body]
    return body


def say(said: dict[str, Any], body: Any) -> Conversation[Note]:
    talk: Conversation[Note] = Conversation("alice", outbox_limit=10)
    talk.opened(INBOX, now=0)
    to = [said[name] for name in ("to", "group") if name in said]
    getattr(talk, said["say"])(*to, body, Note(), id=said["id"])
    return talk


@pytest.mark.parametrize("said", VECTORS, ids=lambda said: said["name"])
def test_what_a_node_would_refuse_is_refused_and_not_kept(said: dict[str, Any]) -> None:
    body = nested(said["levels"]) if "levels" in said else said["body"]
    if "throws" in said:
        with pytest.raises(InvalidInput, match=f"^{said['throws']}=") as caught:
            say(said, body)
        assert caught.value.field == said["throws"]
    else:
        frame = parse_client_frame(say(said, body).outbox.texts()[0])
        assert getattr(frame, "body", None) == body


@pytest.mark.parametrize("body", [1 << 64, {1: 2}, object(), {"a": {1, 2}}], ids=["int", "key", "object", "set"])
def test_what_python_has_and_json_has_not_is_no_body(body: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a JSON value"):
        say({"say": "send", "to": "bob", "id": "1"}, body)
