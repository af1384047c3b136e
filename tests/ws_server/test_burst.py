"""What is handed out in one go leaves in one write for each connection, in its order, at the loop's next turn."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from ringway.ws_server.burst import Burst
from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.wire import encode_text
from tests.ws_server.frames import CLOSE, TEXT, frame
from tests.ws_server.serving import Client, Port, serving, until
from tests.ws_server.tcp_info import needs_tcp_info, segments_in

pytestmark = pytest.mark.usefixtures("each_poller")


def opened(port: Port) -> tuple[Client, Connection]:
    client = port.connect()
    return client, port.handler.opened[-1]


def begun(port: Port) -> Burst:
    burst = port.acceptor.endpoint.burst
    burst.begin()
    assert burst.on
    return burst


@needs_tcp_info
def test_each_connection_has_one_write_at_the_end(port: Port) -> None:
    pairs = [opened(port) for _ in range(3)]
    before = [segments_in(client.sock) for client, _ in pairs]
    burst = begun(port)
    for number in range(9):
        for _, connection in pairs:
            connection.send_frame(encode_text(b"%d" % number))
    for client, _ in pairs:
        assert [client.read() for _ in range(9)] == [(TEXT, b"%d" % number) for number in range(9)]
    assert [segments_in(client.sock) for client, _ in pairs] == [count + 1 for count in before]
    assert not burst.on


def test_after_it_sends_leave_at_once(port: Port) -> None:
    client, connection = opened(port)
    burst = begun(port)
    gevent.sleep(0)
    assert not burst.on
    before = port.counters.bytes_out
    connection.send_frame(encode_text(b"now"))
    assert port.counters.bytes_out > before
    assert client.read() == (TEXT, b"now")


def test_what_is_read_meanwhile_is_answered_after_what_waits(port: Port) -> None:
    """The loop may do only some of its callbacks before it reads."""
    client, connection = opened(port)
    client.send(frame(TEXT, b"2"))
    begun(port)
    connection.send_frame(encode_text(b"1"))
    connection.on_readable()
    connection.send_frame(encode_text(b"3"))
    assert [client.read() for _ in range(3)] == [(TEXT, b"1"), (TEXT, b"2"), (TEXT, b"3")]


def test_a_close_comes_after_what_waits(port: Port) -> None:
    client, connection = opened(port)
    begun(port)
    connection.send_frame(encode_text(b"last"))
    connection.close(4000)
    assert not connection.send_frame(encode_text(b"too late"))
    assert client.goodbye() == [(TEXT, b"last"), (CLOSE, b"\x0f\xa0")]
    until(lambda: port.counters.open == 0)


def test_one_that_is_gone_takes_no_other_along(port: Port) -> None:
    (_, first), (client, second) = opened(port), opened(port)
    begun(port)
    for connection in (first, second):
        connection.send_frame(encode_text(b"x"))
    first.abort()
    assert client.read() == (TEXT, b"x")


def test_one_that_fails_takes_no_other_along(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, first), (client, second) = opened(port), opened(port)
    flush = Connection.flush

    def fail(connection: Connection) -> None:
        if connection is first:
            raise AssertionError("a fault of our own")
        flush(connection)

    monkeypatch.setattr(Connection, "flush", fail)
    begun(port)
    for connection in (first, second):
        connection.send_frame(encode_text(b"x"))
    assert client.read() == (TEXT, b"x")
    monkeypatch.undo()


def test_a_slow_client_is_closed_at_its_limit() -> None:
    with serving(limits=Limits(queue_bytes=100_000)) as port:
        client = port.connect(receive_bytes=4096)
        begun(port)
        for _ in range(200):
            port.handler.opened[0].send_frame(encode_text(b"x" * 60_000))
        until(lambda: port.counters.slow_consumers == 1)
        until(lambda: port.handler.closed == [(4101, "", "slow consumer")])
        client.sock.close()


def test_siblings_of_an_endpoint_share_it(port: Port) -> None:
    endpoint: Any = port.acceptor.endpoint
    assert endpoint.sibling(Limits(message_bytes=1)).burst is endpoint.burst
