"""`Client`: the blocking client, for threads and for greenlets (it uses nothing but threading, queue and sockets).

One thread drives the machine, one reads each connection, and one more calls `on_message` if there is one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection

from ringway.core.close_codes import CloseCode
from ringway.core.errors import ClientError

from .base import ACK_EVERY_S, CLOSE_TIMEOUT_S, NONSENSE, BaseClient, Resync, log
from .conversation import PING, Behind, Held, Message
from .events import BROKEN, Close, Connect, Event, Lost, Resolve, Start, Timer, Wait, Welcome
from .machine import State
from .receipts import Receipt
from .resolver import Resolver, Token
from .sync_connection import Connection


class Client(BaseClient[Receipt]):
    """A client of a ringway cluster, for threads. The options are those of BaseClient, and `token`.

    ::

        with Client("http://127.0.0.1:8080", "alice") as client:
            client.send("bob", {"text": "hello"}).result(5)
            for message in client:
                print(message.from_, message.body)

    `token` goes to the lookup as a bearer token; a callable is asked before each route. Callbacks run in the client's
    threads. Methods may be called from any thread.
    """

    _receipt_type = Receipt

    def __init__(self, lookup: str | Iterable[str], uid: str, *, token: Token | None = None, **options: Any) -> None:
        super().__init__(lookup, uid, **options)
        self._guard = threading.RLock()
        self._resolver = Resolver(self.uid, token, self._route_timeout_s, self._ssl)
        self._work: queue.Queue[Callable[[], None]] = queue.Queue()  # for the driving thread
        self._due: dict[int | str, tuple[float, Callable[[], None]]] = {}  # its timers, by stamp or name
        self._driver = threading.Thread(target=self._drive, name=f"ringway {uid}", daemon=True)
        self._threads: set[threading.Thread] = set()
        self._connections: dict[int, Connection] = {}
        self._live: Connection | None = None
        self._settled, self._stopped = threading.Event(), threading.Event()
        self._messages: deque[Message] = deque()
        self._mail = threading.Condition()
        self._behind = False  # the application, since the inbox was full
        self._intake = threading.Lock()  # a message is judged new and queued in one go, whichever connection it came by
        self._handed: Message | None = None

    # What the application calls.

    def connect(self, wait: bool = True, timeout: float | None = 30.0) -> None:
        """Start; with `wait`, return when a node said welcome.

        Raises:
            RouteRefused, ClosedByServer: it stopped for good.
            ConnectFailed: not within `timeout` seconds; the client goes on trying until it is closed.
            ClientClosed
        """
        if self.state is State.IDLE and self._driver.ident is None:
            self._driver.start()
            self._post(Start())
            if self._on_message is not None:
                self._thread(self._dispatch)
        if wait and not self._settled.wait(timeout):
            raise self._too_late(timeout)
        if self.state is State.CLOSED:
            raise self._ended()

    def receive(self, timeout: float | None = None) -> Message:
        """The next message; the one before it counts as done.

        Raises TimeoutError, and when there will be no more: ClientClosed, ClosedByServer, RouteRefused.
        """
        handed, self._handed = self._handed, None
        if handed is not None and self._auto_ack:
            self.ack(handed)
        self._handed = self._next(timeout)
        return self._handed

    def _next(self, timeout: float | None) -> Message:
        with self._mail:
            if not self._mail.wait_for(lambda: self._messages or self.state is State.CLOSED, timeout):
                raise TimeoutError(f"no message within {timeout} s")
            if not self._messages:
                raise self._ended()
            message = self._messages.popleft()
            self._mail.notify_all()
            return message

    def __iter__(self) -> Iterator[Message]:
        """Messages until close(). Raises the error if the server ended it."""
        while True:
            try:
                message = self.receive()
            except ClientError:
                if self._error is not None:
                    raise
                return
            yield message

    def flush(self, timeout: float | None = 5.0) -> None:
        """Until everything sent so far has its answer. Raises TimeoutError."""
        with self._guard:
            entries = self._talk.outbox.entries()
        until = None if timeout is None else time.monotonic() + timeout
        try:
            for entry in entries:
                entry.receipt.wait(None if until is None else max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise self._unflushed(timeout) from None

    def close(self) -> None:
        """Stop for good. What has no ok fails with ClientClosed; `flush` first to wait for it."""
        if self._driver.ident is None:
            self._feed(Close())
            self._end()
            return
        if self.state is not State.CLOSED:
            self._due_acks()
            self._post(Close())
        if threading.current_thread() is self._driver:
            return
        self._stopped.wait(CLOSE_TIMEOUT_S)
        until = time.monotonic() + 2 * CLOSE_TIMEOUT_S
        for thread in (self._driver, *self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Client:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.state in (State.OPEN, State.MOVING):
                self.flush()
        except TimeoutError:
            log.warning("%s: closing with %d messages that have no ok", self.uid, len(self._talk.outbox))
        finally:
            self.close()

    # The driving thread.

    def _drive(self) -> None:
        while self._machine.state is not State.CLOSED:
            now = time.monotonic()
            for key in [key for key, (due, _) in self._due.items() if due <= now]:
                self._due.pop(key)[1]()
            wait_s = min((due for due, _ in self._due.values()), default=now + 60) - time.monotonic()
            try:
                self._work.get(timeout=max(0.0, wait_s))()
            except queue.Empty:
                continue
        self._end()

    def _post(self, event: Event) -> None:
        self._work.put(lambda: self._feed(event))

    def _later(self, key: int | str, delay_s: Callable[[], float], call: Callable[[], None]) -> None:
        """Call once after a delay, in the driving thread; a second request before that changes nothing."""
        if key not in self._due:
            self._due[key] = (time.monotonic() + delay_s(), call)

    def _resolve(self, action: Resolve) -> None:
        self._thread(lambda: self._post(self._resolver.resolve(self.lookups[action.lookup], action)))

    def _wait(self, action: Wait) -> None:
        self._later(action.stamp, lambda: action.delay_s, lambda: self._feed(Timer(action.stamp)))

    def _connect(self, action: Connect) -> None:
        with self._guard:
            within_s = max(self._open_timeout_s, action.within_s)
            connection = Connection(action.stamp, self._talk.url(action.url), within_s, self._guard, self._wrote)
        self._connections[action.stamp] = connection
        self._thread(lambda: self._run(connection))

    def _adopt(self, stamp: int) -> None:
        connection = self._connections[stamp]
        self._retries = 0
        with self._guard:
            self._live = connection
            texts, told = self._talk.opened(connection.inbox, now=time.time(), dedup_s=connection.dedup_s)
            connection.outgoing.extend(texts)
        for name in ("watch", "pace"):  # of the connection before
            self._due.pop(name, None)
        self._flush_writes()
        for happening in told:
            self._report(happening)
        connection.decided.set()
        self._watch()

    def _drop(self, stamp: int) -> None:
        self._due.pop(stamp, None)
        connection = self._connections.get(stamp)
        if connection is not None:
            connection.dropped = True
            connection.decided.set()
            if (ws := connection.ws) is not None:
                self._thread(lambda: ws.close())  # its reader goes on until the close is answered

    def _changed(self, state: State, cause: ClientError | None) -> None:
        if state in (State.OPEN, State.MOVING, State.CLOSED):
            self._settled.set()
        else:
            self._settled.clear()
        self._tell(self._on_state, state, cause)

    def _end(self) -> None:
        with self._guard:
            self._talk.end(self._ended())
        with self._mail:
            self._mail.notify_all()
        self._resolver.close()
        self._stopped.set()

    def _watch(self) -> None:
        """Ping a silent node, give up a dead one. Starts anew with each connection."""
        connection = self._live
        if connection is None:
            return
        now = time.monotonic()
        if connection.liveness.dead(now):
            connection.abort()
            return
        if connection.liveness.ping_due(now):
            connection.outgoing.append(PING)
            self._flush_writes()
        self._later("watch", lambda: connection.liveness.next_s(now), self._watch)

    # A connection's thread.

    def _run(self, connection: Connection) -> None:
        code, reason = BROKEN, ""
        try:
            with connection.open(self._ssl) as ws:
                try:
                    self._welcome(connection, ws)
                except (TimeoutError, *NONSENSE):
                    connection.abort()  # a close would wait for the answer of a peer that gives none
                    raise
                for text in ws:
                    connection.liveness.pause()
                    self._take(connection, text)
                    connection.liveness.resume(time.monotonic())
                code, reason = ws.close_code or BROKEN, ws.close_reason or ""
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (BROKEN, str(error))
        except Resync as error:
            code, reason = CloseCode.GAP, f"a message of {error} is missing"
        except (OSError, WebSocketException, *NONSENSE) as error:
            reason = f"{type(error).__name__}: {error}"
        with self._guard:
            if connection is self._live:
                self._live = None
                self._talk.lost(code)
        self._work.put(lambda: self._over(connection, code, reason))

    def _over(self, connection: Connection, code: int, reason: str) -> None:
        del self._connections[connection.stamp]
        self._feed(Lost(connection.stamp, code, reason))

    def _welcome(self, connection: Connection, ws: ClientConnection) -> None:
        """Until the welcome, and until the machine has heard of it."""
        frame = connection.welcome(ws)
        if not connection.dropped:
            self._post(Welcome(connection.stamp, frame["node"], frame["gen"], frame["epoch"], frame.get("resume", "")))
            connection.decided.wait()

    def _take(self, connection: Connection, text: str | bytes) -> None:
        with self._intake:
            for happening in self._hear(connection.stamp, text):
                if isinstance(happening, Message):
                    self._queue(happening)
                elif isinstance(happening, Held):
                    self._work.put(lambda: self._later("retry", self._retry_delay_s, self._again))
                elif isinstance(happening, Behind):
                    raise Resync(happening.ch)
                else:
                    self._report(happening)

    def _queue(self, message: Message) -> None:
        with self._mail:
            full = len(self._messages) >= self._inbox_limit
            if full and not self._behind:
                log.warning("%s: %d messages wait for the application; reading pauses", self.uid, len(self._messages))
            self._behind = full or (self._behind and bool(self._messages))  # until it has caught up
            self._mail.wait_for(lambda: len(self._messages) < self._inbox_limit or self.state is State.CLOSED)
            self._messages.append(message)
            self._mail.notify_all()

    def _dispatch(self) -> None:
        """The thread that calls on_message."""
        while True:
            try:
                message = self._next(None)
            except ClientError:
                return
            self._tell(self._on_message, message)
            if self._auto_ack:
                self.ack(message)

    # Small things.

    def _outgoing(self) -> deque[str] | None:
        return self._live.outgoing if self._live is not None else None

    def _flush_writes(self) -> None:
        live = self._live
        if live is None or not live.outgoing:
            return
        if threading.current_thread() is self._driver:  # a full socket must not stop it
            self._thread(lambda: self._flush(live))
        else:
            self._flush(live)

    def _flush(self, connection: Connection) -> None:
        if (wait_s := connection.flush()) > 0:
            self._work.put(lambda: self._later("pace", lambda: wait_s, self._flush_writes))

    def _ack_soon(self) -> None:
        if "ack" not in self._due:
            self._work.put(lambda: self._later("ack", lambda: ACK_EVERY_S, self._due_acks))

    def _thread(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"ringway {self.uid}", daemon=True)
        self._threads.add(thread)
        thread.start()
