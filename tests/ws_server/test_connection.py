"""A connection's life: messages, back pressure, slow readers, the close handshake. Real sockets, one hub."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from errno import ENOMEM
from socket import SHUT_WR
from typing import Any

import gevent
import pytest

from ringway.core.errors import InvalidInput
from ringway.ws_server import endpoint as endpoint_module
from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Handshake
from ringway.ws_server.wire import encode_text
from tests.ws_server.both import POLLERS
from tests.ws_server.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from tests.ws_server.memory import resident
from tests.ws_server.serving import Client, Echo, Port, serving, until
from tests.ws_server.tcp_info import needs_tcp_info, segments_in

pytestmark = pytest.mark.usefixtures("each_poller")


def test_messages_of_all_sizes_come_back(port: Port) -> None:
    client = port.connect()
    for size in (0, 1, 125, 126, 65535, 65536):
        client.send(frame(TEXT, b"x" * size) + frame(BINARY, b"\xff" * size))
        assert client.read() == (TEXT, b"x" * size)
        assert client.read() == (BINARY, b"\xff" * size)
    assert client.goodbye() == [(CLOSE, b"\x03\xe8")]
    until(lambda: port.handler.closed == [(1000, "", "client")])
    assert port.counters.closed == {("1000", "client"): 1}


def test_a_fault_of_our_own_ends_its_connection_alone_and_at_once(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    bystander, client = port.connect(), port.connect()
    deliver = Connection._deliver

    def fail(connection: Connection, *given: Any) -> None:
        if connection is port.handler.opened[1]:
            raise AssertionError("a fault of our own")
        deliver(connection, *given)

    monkeypatch.setattr(Connection, "_deliver", fail)
    client.send(frame(TEXT, b"x"))
    until(lambda: port.handler.closed == [(1006, "", "error")])
    bystander.send(frame(TEXT, b"y"))
    assert bystander.read() == (TEXT, b"y")


@needs_tcp_info
def test_answers_of_one_wake_up_leave_in_one_send(port: Port) -> None:
    client = port.connect()
    before = segments_in(client.sock)
    client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(9)) + frame(PING, b"p"))
    assert [client.read() for _ in range(10)] == [*((TEXT, b"%d" % number) for number in range(9)), (PONG, b"p")]
    assert segments_in(client.sock) - before == 1
    assert port.counters.bytes_out >= 3 * 9 + 3


def test_a_ping_inside_a_message_is_answered_first(port: Port) -> None:
    client = port.connect()
    client.send(frame(TEXT, b"a", fin=False) + frame(PING, b"now") + frame(CONTINUATION, b"b"))
    assert client.read() == (PONG, b"now")
    assert client.read() == (TEXT, b"ab")


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(3), 1002),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(BINARY, b"x" * 70_000), 1009),
        (close_frame(1005), 1002),
    ],
    ids=["utf8", "opcode", "unmasked", "too big", "close code"],
)
def test_a_protocol_error_is_answered_with_its_code_after_what_was_right(port: Port, broken: bytes, code: int) -> None:
    client = port.connect()
    client.send(frame(TEXT, b"right") + broken + frame(TEXT, b"never seen"))
    frames = client.read_all()
    assert frames[0] == (TEXT, b"right")
    assert (frames[1][0], int.from_bytes(frames[1][1][:2], "big")) == (CLOSE, code)
    client.sock.close()
    until(lambda: port.counters.open == 0)
    assert port.counters.closed == {(str(code), "protocol"): 1}
    assert port.handler.received == [b"right"]


def test_close_says_goodbye_after_what_was_sent_and_waits_for_the_client(port: Port) -> None:
    client = port.connect()
    connection = port.handler.opened[0]
    assert connection.send("last words")
    connection.close(4300, '{"w":0}', "moved")
    connection.close(4000, "too late", "ignored")
    assert not connection.send("no more")
    assert client.read() == (TEXT, b"last words")
    assert client.read() == (CLOSE, b'\x10\xcc{"w":0}')
    assert port.counters.open == 1
    client.send(frame(TEXT, b"crossed") + close_frame(4300))
    assert client.read_all() == []
    client.sock.close()
    until(lambda: port.counters.open == 0)
    assert port.handler.closed == [(4300, '{"w":0}', "moved")]
    assert port.handler.received == []


def test_on_close_runs_after_close_returned() -> None:
    seen: list[bool] = []

    class Closing(Echo):
        def on_text(self, connection: Connection, payload: bytes) -> None:
            connection.close(4004)
            seen.append(bool(self.closed))

    with serving(Closing()) as port:
        client = port.connect()
        client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert client.read() == (CLOSE, b"\x0f\xa4")
        until(lambda: port.handler.closed == [(4004, "", "node")])
        assert seen == [False]


def test_a_message_and_the_clients_close_in_one_read_end_at_once_when_the_handler_closes() -> None:
    class Closing(Echo):
        def on_text(self, connection: Connection, payload: bytes) -> None:
            connection.close(4004)

    with serving(Closing(), Limits(close_s=60.0)) as port:
        client = port.connect()
        client.send(frame(TEXT, b"a") + close_frame(1000))
        assert client.read_all() == [(CLOSE, b"\x0f\xa4")]
        until(lambda: port.counters.open == 0)


def test_a_client_that_never_answers_the_close_is_dropped_at_the_deadline() -> None:
    with serving(limits=Limits(close_s=0.2)) as port:
        client = port.connect()
        port.handler.opened[0].close(4301)
        started = time.monotonic()
        assert client.read_all() == [(CLOSE, b"\x10\xcd")]
        assert 0.1 < time.monotonic() - started < 2.0
        assert port.counters.open == 0


@pytest.mark.parametrize("callback", ["on_open", "on_text", "on_binary", "on_close"])
def test_an_exception_in_a_handler_closes_4103_with_the_session_in_the_log(
    callback: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Echo):
        pass

    def fail(self: Failing, connection: Connection, *rest: object) -> None:
        connection.user = "alice"
        raise RuntimeError("broken application")

    setattr(Failing, callback, fail)
    with serving(Failing()) as port:
        client = port.connect()
        client.send(frame(BINARY if callback == "on_binary" else TEXT, b"x") + close_frame(1000))
        frames = client.read_all()
        client.sock.close()
        if callback != "on_close":
            assert frames[-1] == (CLOSE, b"\x10\x07")
            assert port.counters.closed == {("4103", "handler error"): 1}
        until(lambda: port.counters.handler_errors == 1)
        assert "alice" in caplog.text
        assert "broken application" in caplog.text
        port.connect().goodbye()


def test_the_end_of_the_stream_is_1006() -> None:
    with serving() as port:
        port.connect().sock.close()
        half = port.connect()
        half.sock.shutdown(SHUT_WR)
        until(lambda: port.handler.closed == [(1006, "", "eof")] * 2)
        assert half.read_all() == []
        port.connect().reset()
        until(lambda: port.handler.closed[2:] == [(1006, "", "ConnectionResetError")])


def test_codes_that_clients_make_up_share_a_label(port: Port) -> None:
    for code in (3001, 3002, 4777):
        client = port.connect()
        client.send(close_frame(code))
        client.read_all()
        client.sock.close()
    until(lambda: len(port.handler.closed) == 3)
    assert port.counters.closed == {("3xxx", "client"): 2, ("4xxx", "client"): 1}


class Flood(Echo):
    """Sends `count` numbered messages of 10,000 bytes at once to whoever opens."""

    count = 5000

    def on_open(self, connection: Connection, request: Handshake) -> None:
        super().on_open(connection, request)
        gevent.spawn(self.flood, connection)

    def flood(self, connection: Connection) -> None:
        for number in range(self.count):
            connection.send_frame(encode_text(b"%05d" % number + b"." * 9995))


def test_a_reader_that_sleeps_is_closed_4101_and_never_gets_a_torn_frame() -> None:
    with serving(Flood(), Limits(queue_bytes=1 << 20, close_s=1.0)) as port:
        client = port.connect(receive_bytes=16384)
        until(lambda: port.handler.closed)
        assert port.handler.closed == [(4101, "", "slow consumer")]
        assert port.counters.queue_bytes < 100_000, "what is not begun is dropped at once"
        frames = client.read_all()
        assert frames[-1] == (CLOSE, b"\x10\x05")
        assert [payload[:5] for kind, payload in frames[:-1]] == [b"%05d" % at for at in range(len(frames) - 1)]
        assert {len(payload) for _, payload in frames[:-1]} == {10_000}
        client.sock.close()
        until(lambda: port.counters.open == 0)
        assert port.counters.queue_bytes == 0
        assert port.counters.slow_consumers == 1


def test_a_slow_reader_without_a_limit_gets_everything() -> None:
    with serving(Flood(), Limits(queue_bytes=None)) as port:
        client = port.connect(receive_bytes=16384)
        until(lambda: port.handler.opened and port.handler.opened[0].buffered > 1 << 20)
        assert [client.read()[1][:5] for _ in range(5000)] == [b"%05d" % at for at in range(5000)]
        until(lambda: port.counters.queue_bytes == 0)


class Pouring(Echo):
    """Sends to whoever says "pour", a message each turn of the loop, until the connection ends."""

    poured = 0

    def on_text(self, connection: Connection, payload: bytes) -> None:
        if payload == b"pour":
            gevent.spawn(self.pour, connection)
        else:
            super().on_text(connection, payload)

    def pour(self, connection: Connection) -> None:
        while connection.send_frame(encode_text(b"." * 1000)):
            self.poured += 1
            gevent.sleep(0)


def test_a_slow_reader_does_not_hold_up_the_others() -> None:
    handler = Pouring()
    with serving(handler, Limits(queue_bytes=None)) as port:
        slow, others = port.connect(receive_bytes=16384), [port.connect() for _ in range(3)]
        slow.text("pour")
        until(lambda: handler.opened[0].buffered)
        for turn in range(50):
            poured, buffered = handler.poured, handler.opened[0].buffered
            for number, other in enumerate(others):
                other.text(f"{turn} {number}")
            answers = [other.read() for other in others]
            assert answers == [(TEXT, b"%d %d" % (turn, number)) for number in range(len(others))]
            assert handler.poured > poured, "it is still being sent to"
            assert handler.opened[0].buffered > buffered, "and takes nothing"
        assert handler.closed == []
        slow.reset()
        until(lambda: handler.closed)
        for other in others:
            other.goodbye()


def test_memory_returns_after_slow_readers() -> None:
    with serving(Flood(), Limits(queue_bytes=1 << 20, close_s=0.1)) as port:

        def after(count: int) -> int:
            """What is held when so many more slow readers, each with 1 MiB that waited for it, are gone."""
            total = port.counters.opened + count
            for _ in range(count):
                port.connect(receive_bytes=16384)
            until(lambda: port.counters.opened == total and port.counters.open == 0, 20.0)
            port.handler.opened.clear()
            return resident()

        before = after(3)
        assert after(20) - before < 5 << 20
        assert port.counters.queue_bytes == 0


def test_a_paused_connection_is_not_read_until_it_is_resumed(port: Port) -> None:
    client = port.connect()
    connection = port.handler.opened[0]
    connection.pause()
    client.text("held back")
    client.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.read()
    connection.resume()
    client.sock.settimeout(5.0)
    assert client.read() == (TEXT, b"held back")
    connection.pause()
    connection.close(4300)
    client.send(close_frame(4300))
    assert client.read_all() == [(CLOSE, b"\x10\xcc")]


def test_when_drained_calls_back_once_the_queue_is_empty_or_the_connection_gone() -> None:
    with serving(Flood(), Limits(queue_bytes=None, close_s=0.1)) as port:
        calls: list[str] = []
        client = port.connect(receive_bytes=16384)
        connection = until(lambda: port.handler.opened)[0]
        until(lambda: connection.buffered)
        connection.when_drained(lambda: calls.append("drained"))
        for _ in range(5000):
            client.read()
        until(lambda: calls == ["drained"])
        connection.when_drained(lambda: calls.append("gone"))
        connection.abort()
        assert calls == ["drained", "gone"]


def test_everybody_who_waits_for_a_slow_client_is_called_back() -> None:
    with serving(Flood(), Limits(queue_bytes=None, close_s=0.1)) as port:
        calls: list[str] = []
        client = port.connect(receive_bytes=16384)
        connection = until(lambda: port.handler.opened)[0]
        until(lambda: connection.buffered)
        for name in ("one", "two", "three"):
            connection.when_drained(lambda name=name: calls.append(name))
        for _ in range(5000):
            client.read()
        until(lambda: calls == ["one", "two", "three"])
        connection.abort()
        assert calls == ["one", "two", "three"]


@pytest.mark.parametrize("code", [0, 1005, 1006, 70000])
def test_a_code_that_must_not_travel_is_an_error_and_closes_nothing(port: Port, code: int) -> None:
    client = port.connect()
    connection = port.handler.opened[0]
    with pytest.raises(InvalidInput, match=f"code={code}"):
        connection.close(code)
    assert not connection.closed
    client.text("still open")
    assert client.read() == (TEXT, b"still open")
    assert port.counters.closed == {}
    assert client.goodbye() == [(CLOSE, b"\x03\xe8")]


def test_any_reason_is_made_to_fit_the_close_frame(port: Port) -> None:
    for reason, sent in (("\ud800bye", b"?bye"), ("ü" * 100, "ü".encode() * 61)):
        client = port.connect()
        port.handler.opened[-1].close(4000, reason)
        assert client.read() == (CLOSE, b"\x0f\xa0" + sent)
        client.goodbye()


def test_one_frame_for_many_is_the_same_bytes_for_each(port: Port) -> None:
    clients = [port.connect() for _ in range(20)]
    wire = encode_text(b"to everybody")
    for connection in port.handler.opened:
        connection.send_frame(wire)
    assert [client.read() for client in clients] == [(TEXT, b"to everybody")] * 20
    assert port.counters.messages_out == 20


def test_several_frames_joined_count_as_many(port: Port) -> None:
    client = port.connect()
    port.handler.opened[0].send_frame(encode_text(b"a") + encode_text(b"b"), messages=2)
    assert [client.read(), client.read()] == [(TEXT, b"a"), (TEXT, b"b")]
    assert port.counters.messages_out == 2


def test_counters_count_messages_and_bytes_and_not_control_frames(port: Port) -> None:
    client = port.connect()
    before = port.counters.bytes_out
    sent = frame(TEXT, b"abc") + frame(PING, b"")
    client.send(sent)
    assert [client.read(), client.read()] == [(TEXT, b"abc"), (PONG, b"")]
    counters = port.counters
    assert (counters.messages_in, counters.messages_out) == (1, 1)
    assert counters.bytes_in == len(sent)
    assert counters.bytes_out - before == 5 + 2


@pytest.mark.parametrize("ending", ["close", "abort of the protocol"])
def test_bytes_that_come_after_the_end_are_counted_too(port: Port, ending: str) -> None:
    client = port.connect()
    sent = b"" if ending == "close" else frame(3)
    client.send(sent)
    if ending == "close":
        port.handler.opened[0].close(4300)
    assert client.read()[0] == CLOSE
    late = frame(TEXT, b"crossed") * 3
    client.send(late[:10])
    until(lambda: port.counters.bytes_in == len(sent) + 10)
    client.send(late[10:])
    until(lambda: port.counters.bytes_in == len(sent) + len(late))
    assert port.counters.messages_in == 0
    client.sock.close()


def test_early_data_after_the_handshake_is_read(port: Port) -> None:
    client = port.connect(early=frame(TEXT, b"early") + frame(TEXT, b"bird")[:3])
    assert client.read() == (TEXT, b"early")
    client.send(frame(TEXT, b"bird")[3:])
    assert client.read() == (TEXT, b"bird")


def test_what_on_open_sends_comes_after_the_handshakes_answer() -> None:
    class Welcome(Echo):
        def on_open(self, connection: Connection, request: Handshake) -> None:
            connection.send(f"welcome {request.query['name']}")

    with serving(Welcome()) as port:
        assert port.connect("/ws?name=alice").read() == (TEXT, b"welcome alice")


def test_a_connection_refused_in_on_open_is_upgraded_and_closed_with_its_code() -> None:
    class Refusing(Echo):
        def on_open(self, connection: Connection, request: Handshake) -> None:
            connection.close(4001, cause="ticket forged")

    with serving(Refusing()) as port:
        client = port.connect(early=frame(TEXT, b"never delivered"))
        client.send(close_frame(4001))
        assert client.read_all() == [(CLOSE, b"\x0f\xa1")]
        until(lambda: port.handler.closed == [(4001, "", "ticket forged")])
        assert port.handler.received == []


def test_a_closed_connection_is_freed(port: Port) -> None:
    client = port.connect()
    ghost = weakref.ref(port.handler.opened.pop())
    client.goodbye()
    until(lambda: port.counters.open == 0)
    gevent.sleep(0.01)
    assert ghost() is None, "freed without the garbage collector"
    assert len(port.acceptor.endpoint.poller) == 0


def test_a_connection_is_a_few_hundred_bytes(port: Port) -> None:
    client = port.connect()
    connection = port.handler.opened[0]
    assert not hasattr(connection, "__dict__")
    own = connection.__sizeof__() + connection._reader.__sizeof__() + connection.peer.__sizeof__()
    assert own < 600
    client.goodbye()


def test_a_flood_of_small_messages_with_large_answers_is_bounded() -> None:
    class Amplifier(Echo):
        def on_text(self, connection: Connection, payload: bytes) -> None:
            connection.send_frame(encode_text(b"y" * 60_000))

    with serving(Amplifier(), Limits(close_s=0.5)) as port:
        client = port.connect(receive_bytes=16384)
        client.send(frame(TEXT, b"") * 5000)
        until(lambda: port.handler.closed)
        assert port.handler.closed == [(4101, "", "slow consumer")]
        assert isinstance(client, Client)


class Chatty(Echo):
    """Echoes, and does what a client's text says to the other one."""

    def on_text(self, connection: Connection, payload: bytes) -> None:
        super().on_text(connection, payload)
        other = next((each for each in self.opened if each is not connection), None)
        if other is not None and payload == b"greet":
            other.send("from the other")
        elif other is not None and payload in (b"abort", b"close", b"pause"):
            getattr(other, payload.decode())()


@pytest.fixture
def chat(each_poller: None) -> Iterator[Port]:
    if endpoint_module.make_poller is POLLERS[-1].values[0]:
        pytest.skip("libev calls back in the reverse order")
    with serving(Chatty()) as port:
        yield port


def test_clients_that_are_read_together_get_their_own_answer_before_what_a_later_one_says(chat: Port) -> None:
    first, second = chat.connect(), chat.connect()
    first.text("mine")
    second.text("greet")
    assert [first.read(), first.read()] == [(TEXT, b"mine"), (TEXT, b"from the other")]
    assert second.read() == (TEXT, b"greet")
    assert chat.counters.messages_out == 3
    assert chat.counters.bytes_in >= len(frame(TEXT, b"mine") + frame(TEXT, b"greet"))


def test_a_client_that_is_aborted_when_its_message_was_read_already_is_not_told_of_it(chat: Port) -> None:
    first, second = chat.connect(), chat.connect()
    first.text("abort")
    second.text("too late")
    assert first.read() == (TEXT, b"abort")
    until(lambda: chat.handler.closed == [(1006, "", "aborted")])
    assert chat.handler.received == [b"abort"]
    assert len(chat.acceptor.endpoint.poller) >= 1
    first.text("still here")
    assert first.read() == (TEXT, b"still here")


def test_a_client_that_is_closed_when_its_messages_were_read_already_still_ends_in_order(chat: Port) -> None:
    first, second = chat.connect(), chat.connect()
    first.text("close")
    second.send(frame(TEXT, b"too late") + close_frame(1000))
    assert first.read() == (TEXT, b"close")
    assert second.read_all() == [(CLOSE, b"\x03\xe8")]
    until(lambda: chat.handler.closed == [(1000, "", "node")])
    assert chat.handler.received == [b"close"]


def test_an_answer_is_not_lost_when_a_later_client_closes_its_receiver(chat: Port) -> None:
    first, second = chat.connect(), chat.connect()
    first.text("mine")
    second.text("close")
    assert [first.read(), first.read()] == [(TEXT, b"mine"), (CLOSE, b"\x03\xe8")]
    first.send(close_frame(1000))
    assert first.read_all() == []


def test_a_reset_is_told_by_its_name(port: Port) -> None:
    client = port.connect()
    client.text("hello")
    assert client.read() == (TEXT, b"hello")
    client.reset()
    until(lambda: port.handler.closed == [(1006, "", "ConnectionResetError")])


def test_a_read_without_memory_has_a_cause_of_its_own(port: Port) -> None:
    client = port.connect()
    port.handler.opened[0].on_broken(ENOMEM)
    assert client.read_all() == []
    client.sock.close()
    until(lambda: port.handler.closed == [(1006, "", "out of memory")])


def test_messages_cut_anywhere_are_whole_again(port: Port) -> None:
    client = port.connect()
    stream = frame(TEXT, "ünï".encode()) + frame(BINARY, b"\xff" * 300) + frame(PING, b"p")
    for at in (1, 2, 5, 6, 11, 14, 200, 330):
        client.send(stream[:at])
        gevent.sleep(0.005)
        client.send(stream[at:])
        expected = [(TEXT, "ünï".encode()), (BINARY, b"\xff" * 300), (PONG, b"p")]
        assert [client.read() for _ in expected] == expected


def test_text_that_is_not_utf8_is_1007_after_what_was_right(port: Port) -> None:
    client = port.connect()
    client.send(frame(TEXT, b"right") + frame(TEXT, "wröng".encode("latin-1")) + frame(TEXT, b"never"))
    assert [client.read(), client.read()] == [(TEXT, b"right"), (CLOSE, b"\x03\xeftext is not UTF-8")]
    assert port.handler.received == [b"right"]


def test_limits_of_a_message_hold_while_it_is_read_with_others() -> None:
    with serving(limits=Limits(message_bytes=100)) as port:
        client = port.connect()
        client.send(frame(TEXT, b"x" * 100) + frame(TEXT, b"x" * 101))
        assert client.read() == (TEXT, b"x" * 100)
        assert client.read()[1][:2] == (1009).to_bytes(2, "big")
