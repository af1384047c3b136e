"""An accepted socket until it is a connection, belongs to pywsgi, or was refused. No greenlet; one deadline.

The request line shows whose it is. A plain request's head is awaited here too, so that clients who stall in it cost
pywsgi no greenlet; what was read goes along to pywsgi, which begins with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from socket import SHUT_WR
from typing import TYPE_CHECKING

from .handshake import HEAD_END, Refuse, end_of_plain, refuse_response
from .poller import READ
from .tls import TlsStream

if TYPE_CHECKING:
    from .acceptor import Acceptor
    from .handler import Stream

log = logging.getLogger("ringway.ws_server.greeting")

READ_BYTES = 4096  # most requests are shorter
LINGER_S = 2.0
LINGER_BYTES = 65536
TIMED_OUT = Refuse(408, "the request took too long", "timeout")
TOO_LARGE = Refuse(431, "the request's headers are too large", "header limit")


class Greeting:
    """One accepted socket. `_step` is what to do when it is readable; it says whether there must be more to read.

    Functions, not bound methods: with one of its own in a field it would wait for the garbage collector.
    """

    __slots__ = ("_acceptor", "_head", "_lingered", "_step", "_token", "_waiting", "peer", "stream")

    def __init__(self, acceptor: Acceptor, stream: Stream, peer: str) -> None:
        self._acceptor = acceptor
        self.stream = stream
        self.peer = peer
        self._head = b""
        self._lingered = 0
        self._waiting = False
        self._token: int | None = None
        self._step: Callable[[Greeting], bool] = Greeting._read_head

    def start(self) -> None:
        """Begin with what there is; the request is usually all there by now.

        Raises OSError where the socket cannot be watched; it is still the caller's then.
        """
        self.on_readable()

    def start_tls(self) -> None:
        self._step = Greeting._shake
        self.on_readable()

    def on_readable(self) -> None:
        if self._goes_on():
            self._wait()

    def on_writable(self) -> None:
        """Not watched for: answers here are short enough for any socket's buffer."""

    def on_due(self, now: float) -> None:
        """The deadline: a slow loris, or a refused client that does not go."""
        self._token = None
        if self._lingered:
            self.release()
            self.stream.close()
        else:
            self._say(refuse_response(TIMED_OUT))
            self.drop(TIMED_OUT.cause)

    def refuse(self, refusal: Refuse) -> None:
        self._acceptor.count_refused(refusal.cause)
        self.say_and_linger(refuse_response(refusal))

    def say_and_linger(self, data: bytes) -> None:
        """Send the last words, then read until the client goes: closing on unread input would reset them away."""
        self._say(data)
        try:
            self.stream.shutdown(SHUT_WR)
        except OSError:
            self.drop("")
            return
        self._lingered = 1
        self._step = Greeting._linger
        self.release()
        self._wait(LINGER_S)

    def drop(self, cause: str) -> None:
        """Close without another word."""
        if cause and not self._lingered:
            self._acceptor.count_refused(cause)
        self.release()
        self._acceptor.endpoint.poller.forget(self.stream.fileno())  # also where `release` left it watched
        self.stream.close()

    def on_failed(self) -> None:
        """The poller's call."""
        self.drop("error")

    def release(self, *, watched: bool = False) -> None:
        """Let go of the socket: no watcher, no deadline. `watched`: whoever takes it over goes on watching it."""
        if self._waiting:
            self._waiting = False
            if not watched:
                self._acceptor.endpoint.poller.forget(self.stream.fileno())
            self._acceptor.forget(self)
        if self._token is not None:
            self._acceptor.endpoint.heartbeat.cancel(self, self._token)
            self._token = None

    def _goes_on(self) -> bool:
        try:
            return self._step(self)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            self.drop(type(error).__name__)
        except Exception:
            log.exception("handshake with %s failed", self.peer)
            self.drop("error")
        return False

    def _wait(self, delay_s: float | None = None) -> None:
        if self._waiting:
            return
        endpoint = self._acceptor.endpoint
        endpoint.poller.watch(self.stream.fileno(), self, READ)
        self._waiting = True
        self._token = endpoint.heartbeat.schedule(self, endpoint.limits.handshake_s if delay_s is None else delay_s)
        self._acceptor.remember(self)

    def _shake(self) -> bool:
        assert isinstance(self.stream, TlsStream)
        self.stream.do_handshake()
        self._step = Greeting._read_head
        return self._read_head()

    def _read_head(self) -> bool:
        data = self.stream.recv(READ_BYTES)
        if not data:
            self.drop("eof")
            return False
        head = self._head = self._head + data if self._head else data
        ours = self._acceptor.is_ours(head)
        end = head.find(HEAD_END) if ours else end_of_plain(head)
        limit = self._acceptor.endpoint.limits.header_bytes
        if end > limit or (end < 0 and len(head) > limit):
            self.refuse(TOO_LARGE)
            return False
        if end < 0:
            return True
        self._head = b""
        if ours:
            self._answer(head[:end], head[end + len(HEAD_END) :])
        else:
            self._acceptor.hand_over(self, head)
        return False

    def _answer(self, head: bytes, early: bytes) -> None:
        request = self._acceptor.requests.read(head, self.peer)
        if isinstance(request, Refuse):
            self.refuse(request)
        else:
            self._acceptor.admit(self, request, early)

    def _linger(self) -> bool:
        data = self.stream.recv(LINGER_BYTES)
        self._lingered += len(data)
        if not data or self._lingered > LINGER_BYTES:
            self.drop("")
            return False
        return True

    def _say(self, data: bytes) -> None:
        """A short last answer: what the kernel does not take at once is not worth waiting for."""
        try:
            self.stream.send(data)
        except OSError:
            log.debug("no answer to %s: it is gone", self.peer)
