"""Several questions at the same time, with one time limit for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def ask_all(questions: Mapping[str, Callable[[], T]], limit_s: float) -> dict[str, T]:
    """The answers that came in time, by name. Raises what a question raised.

    Each has a daemon thread, not one of an executor's: those would keep the process from ending until the last question
    is answered, and the one that nobody answers is why the limit exists.
    """
    futures = {name: _begin(name, question) for name, question in questions.items()}
    wait(futures.values(), limit_s)
    return {name: future.result() for name, future in futures.items() if future.done()}


def _begin(name: str, question: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def ask() -> None:
        try:
            future.set_result(question())
        except Exception as error:  # noqa: BLE001 - a thread's boundary: whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=ask, name=f"asks {name}", daemon=True).start()
    return future
