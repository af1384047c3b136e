"""docs/protocol.md says what the code does: close codes, ranges, frames and limits are read back from its tables."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import orjson
import pytest

from ringway.core import frames
from ringway.core.close_codes import RANGES, CloseCode
from ringway.core.members import Version
from ringway.core.uids import MAX_BYTES

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "protocol.md").read_text()
CLIENT = {
    "send": frames.Send,
    "publish": frames.Publish,
    "broadcast": frames.Broadcast,
    "join": frames.Join,
    "leave": frames.Leave,
    "ack": frames.Ack,
    "ping": frames.Ping,
    "moving": frames.Moving,
}
PARSED = "json"  # not of the frame: the text of its body
VERSION = Version(1, 2)
INBOX = {"group": "g", "gen": "a", "seq": 1, "unread": 0, "recovered": False, "oldest": 1}
NODE = {
    "welcome": frames.welcome(sid="s", uid="u", node="n", version=VERSION, resume="r", ping_s=25, inbox={}, rate=9),
    "msg": frames.msg_head(ch="u:a", id="1", sender="b", body=0, was=frames.Position("a", 1))
    + frames.msg_tail(gen="a", seq=1, ts=1),
    "ok": frames.ok(id="1", seq=1),
    "error": frames.error(code="c", message="m", id="1", group="g"),
    "joined": frames.joined(**INBOX, asked=frames.Position("a", 1)),
    "left": frames.left(group="g"),
    "position": frames.position(ch="u:a", gen="a", seq=1, recovered=False, oldest=1),
    "move": frames.move(node="n2", url="ws://x", version=VERSION, deadline_ms=1),
    "pong": frames.PONG,
}


def section(title: str) -> str:
    return TEXT.split(title, 1)[1].split("\n#", 1)[0]


def frame_table(title: str) -> dict[str, dict[str, str]]:
    """`t` -> field -> the table's third column, from a table of section 5."""
    table: dict[str, dict[str, str]] = {}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section(title).splitlines() if "|" in line]
    t = ""
    for first, names, _type, must, *_ in rows[2:]:
        t = first.strip("`") or t
        table.setdefault(t, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", names), must))
    return table


def test_every_close_code_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (\d{4}) \| (\w+) \| (.+) \|$", section("## 6. Close codes"), re.MULTILINE)
    assert rows == [(str(int(code)), code.name.lower(), code.meaning) for code in CloseCode]


@pytest.mark.parametrize(("first", "last", "action"), RANGES)
def test_every_range_is_in_the_table_with_its_action(first: int, last: int, action: str) -> None:
    wanted = str(first) if first == last else f"{first}-{last}"
    assert re.search(rf"^\| [^|]*\b{wanted}\b[^|]*\| `{action}`", section("## 6. Close codes"), re.MULTILINE)


def test_every_client_frame_is_in_the_table_with_its_fields() -> None:
    table = frame_table("### From the client")
    assert {t: set(row) for t, row in table.items()} == {
        t: {field.name.rstrip("_") for field in fields(kind)} - {PARSED} for t, kind in CLIENT.items()
    }
    for t, kind in CLIENT.items():
        required = {field.name for field in fields(kind) if field.default is MISSING} - {PARSED}
        assert {field for field, must in table[t].items() if must == "required"} == required


def test_every_node_frame_is_in_the_table_with_its_fields() -> None:
    table = frame_table("### From the node")
    assert {t: set(row) for t, row in table.items()} == {
        t: set(orjson.loads(text)) - {"t"} for t, text in NODE.items()
    }


def test_the_error_codes_are_those_that_nodes_send() -> None:
    """What the node names in its code, and those of frames that cannot be read."""
    texts = [path.read_text() for path in (ROOT / "ws_server").glob("*.py")]
    sent = {code for text in texts for code in re.findall(r'_refuse\(session, "(\w+)"', text)}
    told = section("### From the node").split("`error.code`:", 1)[1].split("The session stays", 1)[0]
    assert set(re.findall(r"`(\w+)`", told)) - {"t"} == sent | {"bad_frame", "unknown_frame"}


def test_no_frame_that_nodes_send_is_left_out() -> None:
    """Each function of core.frames that returns bytes is a frame, or a part of `msg`."""
    returns = {name: getattr(each, "__annotations__", {}).get("return") for name, each in vars(frames).items()}
    makers = {name for name, kind in returns.items() if kind == "bytes"}
    assert makers - {"msg_head", "msg_tail", "volatile_msg", "body_json", "_body"} == NODE.keys() - {"msg", "pong"}


def test_the_limits_are_those_of_the_code() -> None:
    assert f"{frames.FRAME_LIMIT:,} bytes" in section("## 9. Limits")
    assert f"| recipients of one `send` | {frames.MAX_RECIPIENTS} |" in TEXT
    assert f"nested at most {frames.MAX_DEPTH} levels deep" in TEXT
    assert f"| lists and objects within each other in a `body` | {frames.MAX_DEPTH} |" in TEXT
    assert f"1 to {MAX_BYTES} bytes of UTF-8" in TEXT
    assert f"1 to {frames.MAX_ID_BYTES} printable ASCII" in TEXT
    assert frames.SUBPROTOCOL in TEXT
