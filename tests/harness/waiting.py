"""Waiting in tests: poll with a deadline, and say what was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    timeout: float = 10.0,
    message: str = "",
    *,
    interval: float = 0.02,
    ignore: tuple[type[BaseException], ...] = (),
) -> T:
    """Calls `predicate` until its answer is true and returns that; raises AssertionError with the last answer.

    `timeout` and `interval` in seconds; exceptions of the `ignore` types count as "not yet".
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while True:
        try:
            last = predicate()
        except ignore as error:
            last = error
        if last and not isinstance(last, BaseException):
            return last  # type: ignore[no-any-return]
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {message or predicate}; last answer: {last!r}")
        time.sleep(interval)
