"""One rule for names, everywhere."""

from __future__ import annotations

import pytest

from ringway.core.errors import ConfigError, InvalidUid
from ringway.core.uids import validate_group, validate_node_id, validate_uid


@pytest.mark.parametrize("uid", ["a", "用户7", "a&b#c+d/e", "%41", "😀👩‍👩‍👧", "x" * 256, "é" * 128, " ", "a b"])
def test_good_uids(uid: str) -> None:
    assert validate_uid(uid) == validate_uid(uid.encode()) == uid


@pytest.mark.parametrize("uid", [None, "", b"", 7, ["a"], "x" * 257, "é" * 129, "a\x00", "\n", "a\x7f", "\x85",
                                 b"\xff", b"\xed\xa0\x80", "\ud800"])
def test_bad_uids_are_told_value_rule_and_remedy(uid: object) -> None:
    with pytest.raises(InvalidUid, match=r"uid=.*must be 1 to 256 bytes of UTF-8.*; .+") as caught:
        validate_uid(uid)  # type: ignore[arg-type]
    assert caught.value.code == "bad_uid"
    assert len(str(caught.value)) < 300


def test_groups_follow_the_same_rule_under_their_own_name() -> None:
    with pytest.raises(InvalidUid, match="group="):
        validate_group("")


@pytest.mark.parametrize("node", ["", "-a", "a/b", "a b", "é", "x" * 65, "a_0\n"])
def test_bad_node_ids(node: str) -> None:
    with pytest.raises(ConfigError, match="node id"):
        validate_node_id(node)
