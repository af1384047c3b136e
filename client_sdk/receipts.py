"""What `send`, `publish` and `join` return: the message's id now, the node's answer later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

from ringway.core.errors import RingwayError

ANSWER_TIMEOUT_S = 30.0


class _Answer:
    __slots__ = ("_error", "_result", "_waiting", "done", "id")

    def __init__(self, id: str) -> None:
        self.id = id
        self.done = False
        self._result: Any = None
        self._error: RingwayError | None = None
        self._waiting = 0

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the result now."""
        return self._waiting > 0

    @property
    def error(self) -> RingwayError | None:
        """Why it failed; None while there is no answer, and after an ok."""
        return self._error

    def settle(self, result: Any) -> None:
        self._result = result
        self._finish()

    def fail(self, error: RingwayError) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self._wake()

    def _wake(self) -> None:
        raise NotImplementedError

    def _late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"no ok for {self.id} within {timeout} s; it is kept and will be sent again")

    def _value(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class Receipt(_Answer):
    """For threads: `receipt.result(timeout)`."""

    __slots__ = ("_event",)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._event = threading.Event()

    def _wake(self) -> None:
        self._event.set()

    def wait(self, timeout: float | None = ANSWER_TIMEOUT_S) -> None:
        """Until the answer is there, good or bad. Raises TimeoutError."""
        if not self._event.wait(timeout):
            raise self._late(timeout)

    def result(self, timeout: float | None = ANSWER_TIMEOUT_S) -> Any:
        """The answer: the message's seq (None where it has none), or a Joined.

        Raises:
            TimeoutError: not yet; the message is still kept, and sent again.
            FrameRefused: the node does not want it.
            Unavailable: a volatile message whose connection broke.
            Unconfirmed: it had no ok for so long that it may not be sent again.
            ClientClosed, ClosedByServer, RouteRefused: the client stopped first.
        """
        self._waiting += 1
        try:
            self.wait(timeout)
        finally:
            self._waiting -= 1
        return self._value()


class AsyncReceipt(_Answer):
    """For asyncio: `await receipt`, or `await receipt.result(timeout)`. Raises as Receipt.result does."""

    __slots__ = ("_waiter",)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._waiter: asyncio.Future[None] | None = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None = ANSWER_TIMEOUT_S) -> None:
        """Until the answer is there, good or bad. Raises TimeoutError."""
        if not self.done:
            self._waiter = self._waiter or asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(asyncio.shield(self._waiter), timeout)
            except TimeoutError:
                raise self._late(timeout) from None

    async def result(self, timeout: float | None = ANSWER_TIMEOUT_S) -> Any:
        """The answer, as of Receipt.result."""
        self._waiting += 1
        try:
            await self.wait(timeout)
        finally:
            self._waiting -= 1
        return self._value()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()
