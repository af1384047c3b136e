"""Names of keys."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from ringway.core.errors import ConfigError
from ringway.store.keys import Keys, group_log, inbox

NAMES = ["alice", "a}b", "{a}b", "}", "{}", "%7D", "a}:1:b", "用户7"]


@pytest.mark.parametrize("name", NAMES)
def test_what_one_script_touches_is_in_one_slot(name: str) -> None:
    keys = Keys("main")
    for ch in (inbox(name), group_log(name)):
        assert keys.of_log(ch)[:2] == (keys.meta(ch), keys.log(ch))
        assert len({key_slot(key.encode()) for key in keys.of_log(ch)}) == 1
    own = (keys.log(inbox(name)), keys.cursor(name), keys.groups_of(name), keys.away(name))
    assert len({key_slot(key.encode()) for key in own}) == 1


def test_no_two_names_share_a_key() -> None:
    keys = Keys("main")
    for make in (keys.log, keys.meta, keys.cursor, keys.groups_of, keys.members_of, keys.away):
        assert len({make(name) for name in NAMES}) == len(NAMES)


def test_clusters_do_not_meet() -> None:
    assert Keys("a").log("u:x") != Keys("b").log("u:x")


@pytest.mark.parametrize("cluster", ["", "a{b}", "a b", "a:b", "x" * 65])
def test_a_cluster_name_that_would_break_keys_is_refused(cluster: str) -> None:
    with pytest.raises(ConfigError):
        Keys(cluster)
