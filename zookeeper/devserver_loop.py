"""The development server's event loop: one thread that owns the listener, the connections and the state.

Nothing here may be called from another thread but `call`; `devserver.DevServer` is the front.
"""

import logging
import selectors
import socket
import time
from collections.abc import Callable

from .devserver_connection import Connection
from .devserver_protocol import Malformed, read_connect
from .devserver_state import FutureZxid, State

_log = logging.getLogger(__name__)
_TICK_S = 0.05


class Loop:
    def __init__(self, listener: socket.socket, state: State) -> None:
        self.state = state
        self.frozen = False
        self.running = True
        self._listener = listener
        self._listener.setblocking(False)
        self._waker, self._wakened = socket.socketpair()
        self._calls: list[Callable[[], None]] = []
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, lambda _events: self._accept())
        self._selector.register(self._wakened, selectors.EVENT_READ, lambda _events: self._run_calls())

    def call(self, function: Callable[[], None]) -> None:
        """Has the loop's thread run `function`, which must not raise; from any thread."""
        self._calls.append(function)
        self._waker.send(b"!")

    def run(self) -> None:
        """Serves until `running` is False, then closes everything it owns."""
        try:
            while self.running:
                for key, events in self._selector.select(_TICK_S):
                    key.data(events)
                if not self.frozen:
                    self.reap()
                self._flush()
        finally:
            for connection in list(self._connections):
                self._close(connection)
            for resource in (self._selector, self._listener, self._waker, self._wakened):
                resource.close()

    # -- fault verbs

    def freeze(self) -> None:
        self.frozen = True
        for connection in self._connections:
            self._watch(connection)

    def thaw(self) -> None:
        self.reap()
        self.frozen = False
        for connection in list(self._connections):
            self._serve(connection)
            connection.changed = True

    def drop(self) -> None:
        for connection in [each for each in self._connections if not each.speaks_words]:
            self._close(connection)

    def wipe(self) -> None:
        self.drop()
        self.state = self.state.emptied()

    def amnesia(self) -> None:
        self.state.forget_sessions()
        self.drop()

    def reap(self) -> None:
        for session_id in self.state.reap(time.monotonic()):
            _log.info("session %#x expired", session_id)

    def report(self) -> str:
        return (
            f"Zookeeper version: ringway-devserver, in memory\nConnections: {len(self._connections)}\n"
            f"Zxid: {self.state.tree.zxid:#x}\nMode: standalone\nNode count: {len(self.state.tree.nodes)}\n"
        )

    # -- connections

    def _run_calls(self) -> None:
        self._wakened.recv(4096)
        while self._calls:
            self._calls.pop(0)()

    def _accept(self) -> None:
        try:
            raw, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection = Connection(raw)
        self._connections.add(connection)
        self._watch(connection)

    def _ready(self, connection: Connection, events: int) -> None:
        if connection not in self._connections:
            return  # closed by an earlier event of the same round
        connection.changed = True
        if events & selectors.EVENT_READ and not connection.finished:
            try:
                connection.read()
            except OSError as error:
                _log.debug("a connection ended: %s", error)
                connection.abandon()
                return
            self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        try:
            self._dispatch(connection)
        except (Malformed, FutureZxid) as error:
            _log.warning("closing a connection: %s", error)
            connection.abandon()
        except Exception:  # noqa: BLE001 - one client's request must not end the server; it is logged
            _log.exception("closing a connection: an error of the development server itself")
            connection.abandon()

    def _dispatch(self, connection: Connection) -> None:
        word = connection.take_word()
        if word is not None:
            self._answer_word(connection, *word)
            return
        while not (self.frozen or connection.finished) and (packet := connection.take_packet()) is not None:
            now = time.monotonic()
            if connection.session_id == 0:
                self.state.connect(connection, read_connect(packet), now)
            else:
                self.state.request(connection, packet, now=now, wall_ms=time.time_ns() // 1_000_000)

    def _answer_word(self, connection: Connection, word: str, argument: str) -> None:
        if self.frozen and not word.startswith("rw"):
            return  # a stopped process says nothing
        connection.send(self._command(word, argument).encode())
        connection.finish()

    def _command(self, word: str, argument: str) -> str:
        words: dict[str, Callable[[], None]] = {
            "rwfz": self.freeze,
            "rwth": self.thaw,
            "rwdr": self.drop,
            "rwwi": self.wipe,
            "rwam": self.amnesia,
        }
        if word in words:
            words[word]()
            return "ok\n"
        if word == "rwex":
            return self._expire(argument)
        if word == "rwcl":
            return "".join(f"{each.id:#x} {each.timeout_s * 1000:.0f}\n" for each in self.state.sessions.values())
        return {"ruok": "imok", "srvr": self.report()}.get(word, "")

    def _expire(self, argument: str) -> str:
        try:
            self.state.expire(int(argument, 16))
        except (ValueError, KeyError):
            return f"error: {argument!r} is no live session; rwcl lists them\n"
        return "ok\n"

    def _flush(self) -> None:
        """Writes to whoever got something: those that asked and those whose watches were fired."""
        for connection in [each for each in self._connections if each.changed]:
            if not (self.frozen and connection.speaks_zookeeper):
                connection.flush()
            if connection.done:
                self._close(connection)
            else:
                self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Tells the selector what the connection now waits for."""
        events = 0 if connection.finished else selectors.EVENT_READ
        events |= selectors.EVENT_WRITE if connection.unsent else 0
        if self.frozen and connection.speaks_zookeeper:
            events = 0
        self._select(connection, events)

    def _select(self, connection: Connection, events: int) -> None:
        known = self._selector.get_map().get(connection.socket)
        if known is None and events:
            self._selector.register(connection.socket, events, lambda ready: self._ready(connection, ready))
        elif known is not None and not events:
            self._selector.unregister(connection.socket)
        elif known is not None and known.events != events:
            self._selector.modify(connection.socket, events, known.data)

    def _close(self, connection: Connection) -> None:
        self._select(connection, 0)
        self._connections.discard(connection)
        self.state.detach(connection)
        connection.socket.close()
