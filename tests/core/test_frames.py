"""The one parser: every field checked, nothing else looked at."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringway.core import frames
from ringway.core.errors import InvalidFrame, InvalidInput
from ringway.core.frames import (
    MAX_DEPTH,
    Ack,
    Broadcast,
    Join,
    Leave,
    Moving,
    Ping,
    Position,
    Publish,
    Send,
    body_json,
    parse_client_frame,
)
from ringway.core.members import Version


@pytest.mark.parametrize(("text", "frame"), [
    ('{"t":"send","id":"1","to":"bob","body":{"a":1}}', Send("1", ("bob",), {"a": 1}, b'{"a":1}')),
    ('{"t":"send","id":"1","to":["bob","用户7","bob"],"body":null,"volatile":true}',
     Send("1", ("bob", "用户7"), None, b"null", True)),
    ('{"t":"join","group":"g"}', Join("g")),
    ('{"t":"join","group":"g","from":{"gen":"x1","seq":7}}', Join("g", Position("x1", 7))),
    ('{"t":"leave","group":"g"}', Leave("g")),
    ('{"t":"publish","id":"1","group":"g","body":"hi","new_field":1}', Publish("1", "g", "hi", b'"hi"')),
    ('{"t":"broadcast","id":"1","body":[1]}', Broadcast("1", [1], b"[1]")),
    ('{"t":"ack","ch":"u:bob","gen":"x","seq":3}', Ack("u:bob", "x", 3)),
    ('{"t":"ping"}', Ping()),
    ('{"t":"moving"}', Moving()),
])
def test_good_frames(text: str, frame: object) -> None:
    assert parse_client_frame(text) == parse_client_frame(text.encode()) == frame


@pytest.mark.parametrize(("text", "field"), [
    ("", "frame"), ("nonsense", "frame"), ("[]", "frame"), ("1", "frame"), ('"send"', "frame"),
    ("{}", "t"), ('{"t":"shout"}', "t"), ('{"t":7}', "t"), ('{"t":["send"]}', "t"),
    ('{"t":"send","to":"bob","body":1}', "id"), ('{"t":"send","id":7,"to":"bob","body":1}', "id"),
    ('{"t":"send","id":"a b","to":"bob","body":1}', "id"),
    ('{"t":"send","id":"%s","to":"b","body":1}' % ("x" * 65), "id"),
    ('{"t":"send","id":"1","body":1}', "to"), ('{"t":"send","id":"1","to":[],"body":1}', "to"),
    ('{"t":"send","id":"1","to":["a",1],"body":1}', "to"), ('{"t":"send","id":"1","to":"","body":1}', "to"),
    ('{"t":"send","id":"1","to":"bob"}', "body"),
    ('{"t":"send","id":"1","to":"bob","body":1,"volatile":1}', "volatile"),
    ('{"t":"broadcast","id":"1"}', "body"), ('{"t":"broadcast","body":1}', "id"),
    ('{"t":"join"}', "group"), ('{"t":"join","group":"a\\u0000"}', "group"),
    ('{"t":"join","group":"g","from":7}', "from"), ('{"t":"join","group":"g","from":{"gen":"x","seq":-1}}', "from"),
    ('{"t":"join","group":"g","from":{"gen":"x","seq":true}}', "from"),
    ('{"t":"ack","ch":"bob","gen":"x","seq":3}', "ch"), ('{"t":"ack","ch":"u:bob","seq":3}', "seq"),
    ('{"t":"ack","ch":"u:bob","gen":"x","seq":1.5}', "seq"),
])
def test_bad_frames_name_the_field(text: str, field: str) -> None:
    with pytest.raises(InvalidFrame) as caught:
        parse_client_frame(text)
    assert caught.value.field == field


def test_a_bad_frame_keeps_its_id_for_the_answer() -> None:
    no_uid, unknown, no_body = '"t":"send","to":7,"body":1', '"t":"shout"', '"t":"send","to":"b"'
    for text in ('{"id":"m1",' + fields + "}" for fields in (no_uid, unknown, no_body)):
        with pytest.raises(InvalidFrame) as caught:
            parse_client_frame(text)
        assert caught.value.id == "m1"


def test_an_id_that_is_none_comes_back_and_a_join_that_is_none_names_its_group() -> None:
    def named(text: str) -> tuple[str | None, str | None]:
        with pytest.raises(InvalidFrame) as caught:
            parse_client_frame(text)
        return caught.value.id, caught.value.group

    for id in ("order 4711", "x" * 65, "ü"):
        assert named(json.dumps({"t": "send", "id": id, "to": "bob", "body": 1})) == (id, None)
    for id in (7, "x" * 257, "a\x00", "", None):
        assert named(json.dumps({"t": "send", "id": id, "to": "bob", "body": 1})) == (None, None)
    assert named('{"t":"join","group":"room","from":{"gen":"a b","seq":1}}') == (None, "room")
    assert named('{"t":"join","group":"","from":7}') == (None, None)
    assert named('{"t":"publish","group":"room","id":"1"}') == ("1", None), "a group stands for a join"


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("frame", ['"t":"send","to":"bob"', '"t":"send","to":"bob","volatile":true',
                                   '"t":"publish","group":"g"'])
def test_a_body_that_could_not_be_written_again_is_a_bad_frame_with_its_id(frame: str) -> None:
    def parsed(levels: int) -> object:
        return parse_client_frame('{"id":"m1",' + frame + ',"body":' + nested(levels) + "}")

    assert getattr(parsed(MAX_DEPTH), "json", None) == nested(MAX_DEPTH).encode()
    for levels in (MAX_DEPTH + 1, 1000):
        with pytest.raises(InvalidFrame, match="nested at most 254 levels deep") as caught:
            parsed(levels)
        assert (caught.value.field, caught.value.id, caught.value.code) == ("body", "m1", "bad_frame")


def test_a_body_that_is_no_json_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"body=<object .*must be a JSON value"):
        body_json(object())


def refusal(data: str | bytes) -> str:
    """The text of the refusal, or nothing; any other exception is the test's failure."""
    try:
        parse_client_frame(data)
    except InvalidFrame as error:
        return str(error)
    return ""


FIELDS = st.sampled_from(["t", "id", "to", "body", "group", "from", "ch", "gen", "seq"])
SCALARS = st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["send", "join", "ack", "publish"])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner))


@given(JSON)
def test_any_json_is_either_a_frame_or_an_invalid_frame(value: object) -> None:
    assert len(refusal(json.dumps(value))) < 500


@given(st.binary(max_size=60))
def test_any_bytes_are_either_a_frame_or_an_invalid_frame(data: bytes) -> None:
    assert len(refusal(data)) < 500


@given(st.integers(0, 1100), st.sampled_from(['{"t":"send","id":"1","to":"bob","body":%s}', "%s", '{"t":%s}',
                                              '{"t":"send","id":"1","to":[%s],"body":1}', '{"t":"join","group":%s}',
                                              '{"t":"publish","id":"1","group":"g","body":{"a":%s}}',
                                              '{"t":"join","group":"g","from":%s}', '{"t":"ack","ch":%s}']))
def test_json_of_any_depth_is_either_a_frame_or_an_invalid_frame(levels: int, text: str) -> None:
    assert len(refusal(text % nested(levels))) < 500


def test_a_position_survives_the_query() -> None:
    assert Position.parse(str(Position("a1-b", 42))) == Position("a1-b", 42)
    for text in ("", "a", "a:", ":1", "a:-1", "a:x", "a b:1", "a:" + "9" * 20):
        with pytest.raises(InvalidFrame, match="inbox"):
            Position.parse(text)


def test_server_frames_are_json_with_the_documented_fields() -> None:
    head = frames.msg_head(ch="u:bob", id="1", sender="alice", body={"x": "é"})
    whole = json.loads(head + frames.msg_tail(gen="g", seq=7, ts=99))
    assert whole == {"t": "msg", "ch": "u:bob", "id": "1", "from": "alice", "body": {"x": "é"},
                     "gen": "g", "seq": 7, "ts": 99}
    assert json.loads(frames.ok(id="1")) == {"t": "ok", "id": "1"}
    assert json.loads(frames.ok(id="1", seq=3)) == {"t": "ok", "id": "1", "seq": 3}
    assert json.loads(frames.move(node="n2", url="ws://x", version=Version(5, 6), deadline_ms=9)) == {
        "t": "move", "node": "n2", "url": "ws://x", "gen": 5, "epoch": 6, "deadline_ms": 9}
    assert json.loads(frames.error(code="forbidden", message="no", id="2")) == {
        "t": "error", "code": "forbidden", "message": "no", "id": "2"}
    assert "oldest" not in json.loads(frames.joined(group="g", gen="x", seq=0, unread=0, recovered=True))
