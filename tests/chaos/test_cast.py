"""The users of a run: divided among processes without a rest, and talking so that order can be judged."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ringway.chaos.cast import SEVERAL, Cast, Load, Script, split, user_of

LOAD = Load(sessions=101, user_rate=80, group_rate=40, groups=10, seed=3, processes=4)


def test_every_process_works_out_the_same_cast_and_each_client_is_in_one_part() -> None:
    ours, theirs = Cast(LOAD, "run"), Cast(LOAD, "run")
    assert ours.readers() == theirs.readers()
    parts = [ours.part(number) for number in range(4)]
    assert sorted(client for part in parts for client in part) == sorted(ours.clients)
    assert ours.memberships() == {
        client: [group for group, members in ours.groups.items() if user_of(client) in members]
        for client in ours.clients
    }


def test_some_users_have_two_clients_and_each_is_owed_what_the_user_is() -> None:
    cast = Cast(LOAD, "run")
    assert len(cast.clients) == LOAD.sessions
    twice = [uid for uid, times in Counter(map(user_of, cast.clients)).items() if times == 2]
    assert len(twice) == LOAD.sessions - len(cast.uids) == 9
    readers = cast.readers()
    for uid in twice:
        assert [user_of(client) for client in readers[f"u:{uid}"]] == [uid, uid]
    for group, members in cast.groups.items():
        assert sorted(map(user_of, readers[f"g:{group}"])) == sorted(members + [u for u in members if u in twice])
    assert Cast(Load(sessions=1), "run").clients == ["run-u0"]
    assert len(Cast(Load(sessions=50, two_clients=0.0), "run").uids) == 50


def test_what_belongs_to_a_group_for_good_is_not_asked_for() -> None:
    cast = Cast(Load(sessions=101, groups=10, permanent=0.5), "run")
    assert list(cast.permanent.items()) == list(cast.groups.items())[:5]
    asked = cast.asked()
    for client, groups in cast.memberships().items():
        assert asked[client] == [group for group in groups if group not in cast.permanent]
    assert not Cast(LOAD, "run").permanent


def test_the_parts_share_the_rates() -> None:
    scripts = [Script(Cast(LOAD, "run"), number, random.Random(1)) for number in range(4)]
    assert sum(script.user_rate for script in scripts) == pytest.approx(80)
    assert sum(script.group_rate for script in scripts) == pytest.approx(40)


@pytest.mark.parametrize("group", [False, True])
def test_a_sender_says_several_things_to_one_reader_one_after_the_other(group: bool) -> None:
    cast = Cast(LOAD, "run")
    lines = list(Script(cast, 1, random.Random(1)).lines(1000, group=group))
    assert {line.sender for line in lines} <= set(cast.part(1))
    assert all(user_of(line.sender) in cast.groups[line.to[0]] if group else set(line.to) <= set(cast.uids)
               for line in lines)  # fmt: skip
    assert {len(set(line.to)) for line in lines} == ({1} if group else {1, SEVERAL})
    assert len(lines) / len(Counter(lines)) > 5


def test_fractions_of_messages_are_not_lost() -> None:
    due = [0.0, 0.0]
    sent = [split((10.0, 3.0), due, 0.02) for _ in range(500)]
    assert [sum(kind) for kind in zip(*sent, strict=True)] == pytest.approx([100, 30], abs=1)
