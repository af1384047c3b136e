"""The embedded development server: ZooKeeper's wire protocol, in memory, one process. Not for production.

An unmodified kazoo takes it for ZooKeeper; `tests/contract/` runs one suite against both. It lives in a thread
(`DevServer`) or in a process of its own (`python -m ringway.zookeeper.devserver --port 2181`).

On the client port it also answers these words, sent as plain text like ZooKeeper's own four-letter words:

    ruok  imok                  srvr  version, connections, zxid, mode, node count
    rwfz  freeze: accept, read nothing, answer nothing, expire nobody, as under SIGSTOP
    rwth  thaw; sessions whose time ran out meanwhile expire now
    rwdr  drop every connection; sessions stay
    rwwi  wipe: no data, no sessions, zxid 0, as after the loss of the data directory
    rwam  amnesia: forget sessions; a returning client gets a new id and is never told "expired"
    rwex <hex id> and a newline: expire that session
    rwcl  the live sessions, one per line: id in hex, timeout in ms

The verbs answer `ok` or `error: ...`. Any other word closes the connection.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import TypeVar

import click

from .devserver_loop import Loop
from .devserver_state import State

_log = logging.getLogger("ringway.zookeeper.devserver")  # also when run as __main__
_T = TypeVar("_T")
_ANSWER_S = 10.0  # how long a verb waits for the loop's thread


class DevServer:
    """One in-memory ZooKeeper. The methods are the fault verbs; any thread may call them.

    `port` 0 takes a free port, which stays the same over `stop()` and `start()`, as data and sessions do.
    `timeout_range_s` is the shortest and the longest session timeout granted.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, timeout_range_s: tuple[float, float] = (1.0, 60.0)
    ) -> None:
        self._where = (host, port)
        self._state = State(timeout_range_s)
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """`host:port`; the port is known after the first start()."""
        host, port = self._where
        return f"{host}:{port}"

    def start(self) -> None:
        """Binds and serves. Raises OSError when the port is taken, RuntimeError when already started."""
        if self._loop is not None:
            raise RuntimeError(f"the development ZooKeeper at {self.address} is already started")
        listener = socket.create_server(self._where)
        self._where = listener.getsockname()[:2]
        self._state.restart_timers(time.monotonic())
        self._loop = Loop(listener, self._state)
        self._thread = threading.Thread(target=self._loop.run, name="zookeeper-devserver", daemon=True)
        self._thread.start()
        _log.warning(
            "DEVELOPMENT ZooKeeper at %s: NOT FOR PRODUCTION. In memory, one process, everything is lost when it "
            "ends, and whoever can connect may wipe it.",
            self.address,
        )

    def stop(self) -> None:
        """Closes the port and every connection; data and sessions wait for the next start()."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._call(lambda loop: setattr(loop, "running", False))
        thread.join()
        self._state, self._loop, self._thread = loop.state, None, None

    def expire(self, session_id: int) -> None:
        """Ends one session now: its ephemerals go, its connection closes. Raises KeyError for an unknown id."""
        self._call(lambda loop: loop.state.expire(session_id))

    def freeze(self) -> None:
        """Stops reading, answering and expiring; the port still accepts, as under SIGSTOP."""
        self._call(Loop.freeze)

    def thaw(self) -> None:
        """Ends a freeze; sessions whose deadline passed during it expire at once."""
        self._call(Loop.thaw)

    def drop(self) -> None:
        """Closes every connection; sessions stay."""
        self._call(Loop.drop)

    def wipe(self) -> None:
        """Loses data and sessions; zxid is 0 again, so clients that saw more are turned away."""
        self._call(Loop.wipe)

    def amnesia(self) -> None:
        """Forgets all sessions; a returning client gets a new id and never hears that the old one expired."""
        self._call(Loop.amnesia)

    def sessions(self) -> list[int]:
        """Ids of the live sessions."""
        return self._call(lambda loop: list(loop.state.sessions))

    def report(self) -> str:
        """What `srvr` answers."""
        return self._call(Loop.report)

    def _call(self, verb: Callable[[Loop], _T]) -> _T:
        """Runs a verb in the loop's thread, which alone may touch the state, and returns or raises what it did."""
        loop = self._loop
        if loop is None:
            raise RuntimeError(f"the development ZooKeeper at {self.address} is not started")
        answer: Future[_T] = Future()

        def run() -> None:
            try:
                answer.set_result(verb(loop))
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                answer.set_exception(error)

        loop.call(run)
        return answer.result(_ANSWER_S)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; loopback unless told.")
@click.option("--port", default=2181, show_default=True, help="Port to bind; 0 takes a free one.")
def main(host: str, port: int) -> None:
    """Run the development ZooKeeper server until SIGINT or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server = DevServer(host, port)
    try:
        server.start()
    except OSError as error:
        raise click.ClickException(f"--port {port}: cannot listen on {server.address}: {error}") from error
    click.echo(f"ringway zookeeper devserver ready address={server.address}")
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
