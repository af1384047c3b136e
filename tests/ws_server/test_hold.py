"""A response that waits for what follows it: nothing is lost, reordered or kept for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from ringway.ws_server.connection import Connection
from ringway.ws_server.handshake import Handshake
from ringway.ws_server.wire import encode_text
from tests.ws_server.frames import CLOSE, TEXT, frame
from tests.ws_server.serving import HEAD, Client, Echo, Port, serving, until


class Holding(Echo):
    """Holds the response of each connection."""

    def on_open(self, connection: Connection, request: Handshake) -> None:
        super().on_open(connection, request)
        connection.hold()


@pytest.fixture
def port() -> Iterator[Port]:
    with serving(Holding()) as port:
        yield port


def held(port: Port, early: bytes = b"") -> tuple[Any, Connection]:
    """A socket that has asked, and the connection that it became."""
    sock = port.raw()
    sock.sendall(HEAD.format(path="/ws", extra="").encode() + early)
    until(lambda: port.handler.opened)
    return sock, port.handler.opened[0]


def answer(sock: Any) -> Client:
    """Read the response to what `held` asked."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += sock.recv(65536)
    head, _, rest = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return Client(sock, rest)


def welcome(connection: Connection) -> None:
    connection.send_frame(encode_text(b"welcome"))
    connection.release()


def test_response_and_what_follows_leave_together(port: Port) -> None:
    sock, connection = held(port)
    before = port.counters.bytes_out
    gevent.sleep(0.05)
    assert port.counters.bytes_out == before == 0
    welcome(connection)
    client = answer(sock)
    assert client.read() == (TEXT, b"welcome")
    client.text("after")
    assert client.read() == (TEXT, b"after")


@pytest.mark.parametrize("release", [
    lambda connection: connection.close(4001, "no"),
    lambda connection: welcome(connection) or connection.close(4001, "no"),
])
def test_a_close_is_preceded_by_the_response(port: Port, release: Callable[[Connection], object]) -> None:
    sock, connection = held(port)
    release(connection)
    client = answer(sock)
    frames = [client.read()]
    if frames[0][0] == TEXT:
        frames.append(client.read())
    assert frames[-1] == (CLOSE, b"\x0f\xa1no")


def test_what_the_client_says_at_once_is_answered_after_the_response(port: Port) -> None:
    sock, connection = held(port, early=frame(TEXT, b"early"))
    client = answer(sock)
    assert client.read() == (TEXT, b"early")
    welcome(connection)
    assert client.read() == (TEXT, b"welcome")


def test_a_client_that_leaves_meanwhile_leaves_nothing(port: Port) -> None:
    sock, connection = held(port)
    sock.close()
    until(lambda: port.handler.closed)
    welcome(connection)
    assert port.counters.open == port.counters.queue_bytes == 0


def test_to_hold_later_does_nothing(port: Port) -> None:
    sock, connection = held(port)
    connection.release()
    client = answer(sock)
    connection.hold()
    connection.send_frame(encode_text(b"now"))
    assert client.read() == (TEXT, b"now")
