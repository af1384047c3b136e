"""The users of a run: divided among processes without a rest, and talking so that order can be judged."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ringway.chaos.cast import Cast, Load, Script, split

LOAD = Load(sessions=101, user_rate=80, group_rate=40, groups=10, seed=3, processes=4)


def test_every_process_works_out_the_same_cast_and_each_user_is_in_one_part() -> None:
    ours, theirs = Cast(LOAD, "run"), Cast(LOAD, "run")
    assert ours.readers() == theirs.readers()
    parts = [ours.part(number) for number in range(4)]
    assert sorted(uid for part in parts for uid in part) == sorted(ours.uids)
    assert {uid: sorted(groups) for uid, groups in ours.memberships().items() if groups} == {
        uid: sorted(group for group, members in ours.groups.items() if uid in members)
        for uid in {uid for members in ours.groups.values() for uid in members}
    }


def test_the_parts_share_the_rates() -> None:
    scripts = [Script(Cast(LOAD, "run"), number, random.Random(1)) for number in range(4)]
    assert sum(script.user_rate for script in scripts) == pytest.approx(80)
    assert sum(script.group_rate for script in scripts) == pytest.approx(40)


@pytest.mark.parametrize("group", [False, True])
def test_a_sender_says_several_things_to_one_reader_one_after_the_other(group: bool) -> None:
    cast = Cast(LOAD, "run")
    lines = list(Script(cast, 1, random.Random(1)).lines(1000, group=group))
    assert {line.sender for line in lines} <= set(cast.part(1))
    assert all(line.sender in cast.groups[line.to] if group else line.to in cast.uids for line in lines)
    assert len(lines) / len(Counter(lines)) > 5


def test_fractions_of_messages_are_not_lost() -> None:
    due = [0.0, 0.0]
    sent = [split((10.0, 3.0), due, 0.02) for _ in range(500)]
    assert [sum(kind) for kind in zip(*sent, strict=True)] == pytest.approx([100, 30], abs=1)
