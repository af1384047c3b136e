"""Who belongs to which group for good."""

from __future__ import annotations

from typing import Any

import pytest

from ringway.core.errors import InvalidUid
from ringway.core.frames import Position
from ringway.store import Publisher
from ringway.store.keys import Keys
from ringway.store.limits import Limits
from ringway.store.log import MessageLog
from ringway.store.memberships import Memberships
from ringway.store.notices import Control, decode
from ringway.store.retained import Append


@pytest.fixture
def log(client: Any, keys: Keys) -> MessageLog:
    return MessageLog(client, keys, limits=Limits(cap=10))


@pytest.fixture
def memberships(log: MessageLog) -> Memberships:
    return Memberships(log)


def say(log: MessageLog, count: int, start: int = 0) -> None:
    log.append_many([Append("g:team", "app", f"m{i}", b"1") for i in range(start, start + count)])


def test_members_and_groups_mirror_each_other(memberships: Memberships) -> None:
    memberships.add("red", ["bob", "alice", "bob"])
    memberships.add("blue", "alice")
    memberships.add("red", "alice")
    assert memberships.groups_of("alice") == ["blue", "red"]
    assert memberships.groups_of_many(["bob", "alice"]) == [["red"], ["blue", "red"]]
    assert memberships.members_of("red") == ["alice", "bob"]
    memberships.remove("red", ["alice", "nobody"])
    memberships.remove("red", [])
    assert (memberships.groups_of("alice"), memberships.members_of("red")) == (["blue"], ["bob"])


def test_a_new_member_of_an_old_group_has_nothing_unread_and_misses_nothing(
    memberships: Memberships, log: MessageLog
) -> None:
    """The log has dropped what was first in it: nobody who comes after that is to be told of a gap."""
    say(log, 200)
    memberships.add("team", "ann")
    cursor = log.cursor("ann", "g:team")
    assert cursor is not None
    assert cursor.seq == 200
    assert log.read("g:team", cursor).recovered
    say(log, 3, start=200)
    memberships.add("team", "ann")  # said twice, as after an Unavailable: what is unread stays unread
    assert log.unread("ann", ["g:team"]) == [3]


def test_who_has_read_the_group_before_goes_on_from_there(memberships: Memberships, log: MessageLog) -> None:
    say(log, 5)
    gen = log.read("g:team", None).gen
    log.ack("ann", "g:team", gen, 2)
    memberships.add("team", "ann")
    assert log.cursor("ann", "g:team") == Position(gen, 2)


def test_who_is_added_again_has_nothing_to_do_with_what_was_said_meanwhile(
    memberships: Memberships, log: MessageLog
) -> None:
    say(log, 2)
    memberships.add("team", "ann")
    memberships.remove("team", "ann")
    say(log, 3, start=2)
    memberships.add("team", "ann")
    assert log.unread("ann", ["g:team"]) == [0]


def test_members_of_a_group_that_has_said_nothing_yet_get_all_that_it_says(
    memberships: Memberships, log: MessageLog
) -> None:
    memberships.add("team", "ann")
    say(log, 2)
    assert log.unread("ann", ["g:team"]) == [2]


def test_all_nodes_are_told(client: Any, keys: Keys) -> None:
    publisher = Publisher(client, cluster=keys.cluster)
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(keys.all_channel)
        listener.get_message(timeout=5.0)
        publisher.add_members("team", ["ann", "bob"])
        publisher.remove_members("team", "bob")
        told = [decode(listener.get_message(timeout=5.0)["data"]) for _ in range(2)]
    assert told == [Control("add_members", {"group": "team", "uids": ["ann", "bob"]}),
                    Control("remove_members", {"group": "team", "uids": ["bob"]})]
    assert (publisher.members_of("team"), publisher.groups_of("ann")) == (["ann"], ["team"])


@pytest.mark.parametrize(("group", "uids"), [("", "ann"), ("team", ["ann", ""]), ("team", [["ann"]])])
def test_bad_names_change_nothing(memberships: Memberships, group: str, uids: Any) -> None:
    with pytest.raises(InvalidUid):
        memberships.add(group, uids)
    assert memberships.members_of("team") == []
