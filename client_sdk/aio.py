"""`AsyncClient`: the client for asyncio. No task once it is open, one timer a client; thousands fit in a process."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

from websockets.exceptions import WebSocketException

from ringway.core.close_codes import CloseCode
from ringway.core.errors import ClientError

from .aio_connection import Connection
from .base import ACK_EVERY_S, CLOSE_TIMEOUT_S, NONSENSE, BaseClient, Resync, log
from .conversation import PING, Behind, Held, Message
from .events import BROKEN, Close, Connect, Event, Lost, Resolve, Start, Timer, Wait, Welcome
from .machine import State
from .receipts import AsyncReceipt
from .resolver import AsyncResolver, AsyncToken


class AsyncClient(BaseClient[AsyncReceipt]):
    """A client of a ringway cluster, for asyncio. The options are those of BaseClient, and `token`.

    ::

        async with AsyncClient("http://127.0.0.1:8080", "alice") as client:
            await client.send("bob", {"text": "hello"})
            async for message in client:
                print(message.from_, message.body)

    `token` goes to the lookup as a bearer token; a callable, plain or async, is asked before each route. `on_message`
    may be async too; the next message waits for it.
    """

    _receipt_type = AsyncReceipt

    def __init__(
        self, lookup: str | Iterable[str], uid: str, *, token: AsyncToken | None = None, **options: Any
    ) -> None:
        super().__init__(lookup, uid, **options)
        self._token = token
        self._async_callback = inspect.iscoroutinefunction(self._on_message)
        self._resolver: AsyncResolver | None = None
        self._ends: set[asyncio.Future[None]] = set()  # of tasks, and of sockets that are being closed
        self._connections: dict[int, Connection] = {}
        self._pending: dict[int, asyncio.TimerHandle | asyncio.Task[None]] = {}  # waits and routes under way, by stamp
        self._live: Connection | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._messages: deque[Message] = deque()
        self._arrived, self._settled = asyncio.Event(), asyncio.Event()
        self._held = False  # a connection reads no more, as the application is behind
        self._dispatching = False
        self._handed: Message | None = None

    async def connect(self, wait: bool = True, timeout: float | None = 30.0) -> None:
        """Start; with `wait`, return when a node said welcome.

        Raises:
            RouteRefused, ClosedByServer: it stopped for good.
            ConnectFailed: not within `timeout` seconds; the client goes on trying until it is closed.
            ClientClosed
        """
        if self.state is State.IDLE:
            self._resolver = AsyncResolver(self.uid, self._token, self._route_timeout_s, self._ssl)
            self._feed(Start())
        if wait:
            try:
                await asyncio.wait_for(self._settled.wait(), timeout)
            except TimeoutError:
                raise self._too_late(timeout) from None
        if self.state is State.CLOSED:
            raise self._ended()

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message; the one before it counts as done.

        Raises TimeoutError, and when there will be no more: ClientClosed, ClosedByServer, RouteRefused.
        """
        handed, self._handed = self._handed, None
        if handed is not None and self._auto_ack:
            self.ack(handed)
        while not self._messages:
            if self.state is State.CLOSED:
                raise self._ended()
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout)
            except TimeoutError:
                raise TimeoutError(f"no message within {timeout} s") from None
        self._handed = self._messages.popleft()
        self._read_on()
        return self._handed

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until close(). Raises the error if the server ended it."""
        while True:
            try:
                message = await self.receive()
            except ClientError:
                if self._error is not None:
                    raise
                return
            yield message

    async def flush(self, timeout: float | None = 5.0) -> None:
        """Until everything sent so far has its answer. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout):
                for entry in self._talk.outbox.entries():
                    await entry.receipt.wait(None)
        except TimeoutError:
            raise self._unflushed(timeout) from None

    async def close(self) -> None:
        """Stop for good. What has no ok fails with ClientClosed; `flush` first to wait for it."""
        if self.state is not State.CLOSED:
            self._due_acks()
            if self._live is not None:
                await self._live.written(CLOSE_TIMEOUT_S)
            self._feed(Close())
        ends = (self._ends | {each.gone for each in self._connections.values()}) - {asyncio.current_task()}
        if ends:
            await asyncio.wait(ends, timeout=2 * CLOSE_TIMEOUT_S)

    async def __aenter__(self) -> AsyncClient:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.state in (State.OPEN, State.MOVING):
                await self.flush()
        except TimeoutError:
            log.warning("%s: closing with %d messages that have no ok", self.uid, len(self._talk.outbox))
        finally:
            await self.close()

    # The machine's actions.

    def _post(self, event: Event) -> None:
        self._feed(event)

    def _resolve(self, action: Resolve) -> None:
        self._pending[action.stamp] = self._spawn(self._route(action))

    async def _route(self, action: Resolve) -> None:
        assert self._resolver is not None  # made by connect(), before the first Resolve
        event = await self._resolver.resolve(self.lookups[action.lookup], action)
        self._pending.pop(action.stamp, None)
        self._feed(event)

    def _wait(self, action: Wait) -> None:
        def over() -> None:
            self._pending.pop(action.stamp, None)
            self._feed(Timer(action.stamp))

        self._pending[action.stamp] = asyncio.get_running_loop().call_later(action.delay_s, over)

    def _connect(self, action: Connect) -> None:
        connection = Connection(action.stamp, welcomed=self._welcomed, attend=self._attend, wrote=self._wrote)
        self._connections[action.stamp] = connection
        within_s = max(self._open_timeout_s, action.within_s)
        connection.task = self._spawn(self._open(connection, self._talk.url(action.url), within_s))

    def _adopt(self, stamp: int) -> None:
        self._live = connection = self._connections[stamp]
        self._retries = 0
        texts, told = self._talk.opened(connection.inbox, now=time.time(), dedup_s=connection.dedup_s)
        self._write(texts)
        self._flush_writes()
        for happening in told:
            self._report(happening)
        if (watch := self._timers.pop("watch", None)) is not None:
            watch.cancel()
        self._watch()

    def _drop(self, stamp: int) -> None:
        connection, pending = self._connections.get(stamp), self._pending.pop(stamp, None)
        if pending is not None:
            pending.cancel()
        if connection is not None and connection.opened:
            connection.close()  # it is read until the close is answered
        elif connection is not None and connection.task is not None:
            connection.task.cancel()

    def _changed(self, state: State, cause: ClientError | None) -> None:
        if state is State.CLOSED:
            self._end()
        if state in (State.OPEN, State.MOVING, State.CLOSED):
            self._settled.set()
        else:
            self._settled.clear()
        self._tell(self._on_state, state, cause)

    def _end(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._talk.end(self._ended())
        self._arrived.set()
        self._read_on()
        if self._resolver is not None:
            self._spawn(self._resolver.close())

    # A connection's life.

    async def _open(self, connection: Connection, url: str, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await connection.open(url, self._ssl)
        except (OSError, TimeoutError, WebSocketException, *NONSENSE) as error:
            if not connection.opened:
                connection.abort()
                self._over(connection, BROKEN, f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            connection.abort()
            self._note(self._connections.pop(connection.stamp).gone)
            raise
        else:
            if connection.end is not None and not connection.opened:
                self._over(connection, *connection.end)

    def _welcomed(self, connection: Connection, frame: dict[str, Any]) -> None:
        self._feed(Welcome(connection.stamp, frame["node"], frame["gen"], frame["epoch"], frame.get("resume", "")))

    def _attend(self, connection: Connection) -> None:
        """Take what a connection has read, as far as there is room for messages, and after that its end."""
        if connection.stamp not in self._connections:
            return
        try:
            while connection.unread:
                if self._full:
                    self._held = True
                    connection.hold()
                    return
                self._take(connection, connection.unread.popleft())
        except Resync as error:
            connection.close()
            self._over(connection, CloseCode.GAP, f"a message of {error} is missing")
            return
        if connection.end is not None:
            self._over(connection, *connection.end)

    def _read_on(self) -> None:
        """There is room again for what connections have read."""
        if self._held and not self._full:
            self._held = False
            for connection in list(self._connections.values()):
                connection.go_on()
                self._attend(connection)

    @property
    def _full(self) -> bool:
        """Whether the application is so far behind that nothing more is read for it; not yet at the limit itself, for
        what comes next may be an answer."""
        return len(self._messages) > self._inbox_limit and self.state is not State.CLOSED

    def _over(self, connection: Connection, code: int, reason: str) -> None:
        del self._connections[connection.stamp]
        self._note(connection.gone)
        if connection is self._live:
            self._live = None
            self._talk.lost(code)
        self._feed(Lost(connection.stamp, code, reason))

    def _take(self, connection: Connection, text: str) -> None:
        for happening in self._hear(connection.stamp, text):
            if isinstance(happening, Message):
                self._deliver(happening)
            elif isinstance(happening, Held):
                self._later("retry", self._retry_delay_s, self._again)
            elif isinstance(happening, Behind):
                raise Resync(happening.ch)
            else:
                self._report(happening)

    def _deliver(self, message: Message) -> None:
        if self._on_message is not None and not self._async_callback:
            self._tell(self._on_message, message)
            self._done(message)
            return
        self._messages.append(message)
        if self._on_message is None:
            self._arrived.set()
        elif not self._dispatching:
            self._dispatching = True
            self._spawn(self._dispatch())

    async def _dispatch(self) -> None:
        """Runs the async callback, one message at a time; a message leaves the queue when its callback is done."""
        assert self._on_message is not None
        while self._messages:
            message = self._messages[0]
            try:
                await self._on_message(message)
            except Exception:  # noqa: BLE001 - the application's code may raise anything
                log.exception("%s: on_message failed for %s %s", self.uid, message.ch, message.id)
            self._messages.popleft()
            self._done(message)
            self._read_on()
        self._dispatching = False

    def _done(self, message: Message) -> None:
        if self._auto_ack:
            self.ack(message)

    # Small things.

    def _outgoing(self) -> deque[str] | None:
        return self._live.outgoing if self._live is not None else None

    def _flush_writes(self) -> None:
        if self._live is not None and self._live.outgoing:
            self._live.flush()

    def _ack_soon(self) -> None:
        self._later("ack", lambda: ACK_EVERY_S, self._due_acks)

    def _watch(self) -> None:
        """Ping a silent node, give up a dead one. Starts anew with each connection."""
        connection = self._live
        if connection is None:
            return
        now = asyncio.get_running_loop().time()
        if connection.liveness.dead(now):
            connection.abort()
            return
        if connection.liveness.ping_due(now):
            self._write([PING])
            self._flush_writes()
        self._later("watch", lambda: connection.liveness.next_s(now), self._watch)

    def _later(self, name: str, delay_s: Callable[[], float], call: Callable[[], object]) -> None:
        """Call once after a delay; a second request before that changes nothing."""
        def run() -> None:
            del self._timers[name]
            call()

        if name not in self._timers and self.state is not State.CLOSED:
            self._timers[name] = asyncio.get_running_loop().call_later(delay_s(), run)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._note(task)
        return task

    def _note(self, end: asyncio.Future[None]) -> None:
        """For close() to wait for."""
        if not end.done():
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)
