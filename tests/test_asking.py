from __future__ import annotations

import threading

import pytest

from ringway.asking import ask_all


def test_all_are_asked_at_the_same_time() -> None:
    both = threading.Barrier(2)
    assert ask_all({"a": lambda: both.wait(5) >= 0, "b": lambda: both.wait(5) >= 0}, 5.0) == {"a": True, "b": True}


def test_who_does_not_answer_in_time_is_left_out() -> None:
    released = threading.Event()
    assert ask_all({"quick": lambda: True, "slow": lambda: released.wait(10)}, 0.1) == {"quick": True}
    released.set()


def test_an_error_is_the_askers() -> None:
    with pytest.raises(ZeroDivisionError):
        ask_all({"a": lambda: 1 / 0}, 5.0)
