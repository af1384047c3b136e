from __future__ import annotations

from ringway.core.repeats import Repeats, times


def test_the_first_is_said_and_then_one_each_30_s_with_their_count() -> None:
    repeats = Repeats()
    said = {now: count for now in range(100) if (count := repeats.again(float(now)))}
    assert said == {0: 1, 30: 30, 60: 30, 90: 30}


def test_after_its_end_the_next_is_a_first_one() -> None:
    repeats = Repeats()
    assert [repeats.again(0.0), repeats.again(1.0)] == [1, 0]
    repeats.over()
    assert repeats.again(2.0) == 1


def test_a_count_is_in_words_where_it_was_more_than_once() -> None:
    assert [times(count) for count in (0, 1, 2)] == ["", "", " (2 times)"]
