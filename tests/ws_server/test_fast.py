"""The compiled part by itself: what it takes, what it hands back, and what it does when its callers misbehave."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import gevent
import pytest

from ringway.ws_server import fast, wire
from ringway.ws_server.endpoint import Counters
from ringway.ws_server.poller import READ, CompiledPoller
from tests.ws_server.frames import BINARY, CONTINUATION, PING, TEXT, close_frame, frame
from tests.ws_server.serving import until
from tests.ws_server.test_wire_fuzz import generate

pytestmark = pytest.mark.skipif(fast.compiled is None, reason=f"not compiled: {fast.WHY}")
LIMIT = 400


def take(data: bytes, position: int = 0, limit: int = LIMIT) -> tuple[int, list[wire.Message]]:
    out: list[wire.Message] = []
    return fast.compiled.take(data, position, limit, out), out


# -- frames


@pytest.mark.parametrize(
    "other",
    [
        frame(PING, b"p"), close_frame(1000), frame(CONTINUATION, b"x"), frame(TEXT, b"x", fin=False),
        frame(TEXT, b"x", rsv=4), frame(TEXT, b"x", rsv=1), frame(3, b"x"), frame(TEXT, b"x", masked=False),
        frame(TEXT, b"\xff"), frame(TEXT, b"x" * (LIMIT + 1)), frame(BINARY, b"x", width=2),
        frame(BINARY, b"x" * 200, width=8), b"\x82\xff" + b"\xff" * 12, frame(TEXT, b"whole")[:-1], b"\x81", b"",
        b"\x81\xfe\x01", b"\x82\xff" + bytes(7),
    ],
    ids=lambda other: other[:8].hex() or "nothing",
)
def test_it_stops_at_the_first_frame_that_is_not_a_whole_message(other: bytes) -> None:
    before = frame(TEXT, "grüß".encode()) + frame(BINARY, b"\xff" * 126) + frame(TEXT, b"")
    whole = [(TEXT, "grüß".encode()), (BINARY, b"\xff" * 126), (TEXT, b"")]
    assert take(before + other) == (len(before), whole)
    assert take(before + other, len(before)) == (len(before), [])


@pytest.mark.parametrize("size", [*range(20), 125, 126, 127, 399, 400])
def test_every_size_and_alignment_is_unmasked(size: int) -> None:
    random = Random(size)
    for before in range(9):
        payload = random.randbytes(size)
        data = b"\x00" * before + frame(BINARY, payload, mask=random.randbytes(4))
        assert take(data, before) == (len(data), [(BINARY, payload)])


@pytest.mark.parametrize("at", range(17))
def test_one_byte_that_is_not_ascii_is_found_anywhere(at: int) -> None:
    text = bytearray(b"a" * 17)
    text[at] = 0x80
    assert take(frame(TEXT, bytes(text))) == (0, [])


def test_it_takes_at_least_what_python_takes_and_the_same() -> None:
    random = Random(70)
    for _ in range(3000):
        stream = generate(random)
        at = random.randrange(len(stream) + 1) if stream else 0
        expected: list[wire.Message] = []
        reached = wire.python_take(stream, at, LIMIT, expected)
        further, messages = take(stream, at)
        assert reached <= further <= len(stream)
        assert messages[: len(expected)] == expected


@pytest.mark.parametrize("limit", [-1, 0, 1])
def test_a_limit_is_never_passed(limit: int) -> None:
    assert take(frame(TEXT, b"xx"), limit=limit) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError), ((b"", 0, 0), TypeError), ((b"", 0, 0, ()), TypeError), ((bytearray(8), 0, 0, []), TypeError),
        ((b"", "0", 0, []), TypeError), ((b"", -1, 0, []), ValueError), ((b"", 1 << 70, 0, []), OverflowError),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        fast.compiled.take(*arguments)


def test_a_position_behind_the_end_takes_nothing() -> None:
    assert take(b"\x81\x80", 1 << 40) == (1 << 40, [])


# -- a turn


class Spy(fast.Line):
    """A connection's side of a turn."""

    def __init__(self, sock: socket.socket, does: Callable[[Spy], object] = lambda _spy: None) -> None:
        self.sock, self.does = sock, does
        self.descriptor, self.plain_limit, self.unsent = sock.fileno(), LIMIT, None
        self.calls: list[Any] = []

    def on_frames(self, messages: list[wire.Message], rest: bytes | None) -> None:
        self.calls.append((messages, rest))
        self.does(self)

    def on_unsent(self, data: bytes, sent: int) -> None:
        self.calls.append((len(data), sent))

    def on_broken(self, error: int) -> None:
        self.calls.append(error)
        self.does(self)

    def on_readable(self) -> None:
        self.calls.append("readable")
        self.does(self)

    def on_writable(self) -> None:
        raise AssertionError("nobody waits for that")

    def on_failed(self) -> None:
        self.calls.append("failed")


class Turns:
    """A poller with pairs of sockets; the first of each is the poller's."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.poller = CompiledPoller(gevent.get_hub().loop, self.counters)
        self.sockets: list[socket.socket] = []

    def pair(self, does: Callable[[Spy], object] = lambda _spy: None) -> tuple[Spy, socket.socket]:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        self.sockets += [ours, theirs]
        spy = Spy(ours, does)
        self.poller.watch(spy.descriptor, spy, READ)
        return spy, theirs

    def forget(self, spy: Spy) -> None:
        self.poller.forget(spy.descriptor)


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    turns.poller.close()
    for sock in turns.sockets:
        sock.close()


def test_messages_and_the_rest_are_told_and_the_answer_is_sent(turns: Turns) -> None:
    spy, theirs = turns.pair(lambda spy: setattr(spy, "unsent", b"answer"))
    theirs.send(frame(TEXT, b"one") + frame(PING, b"p"))
    until(lambda: spy.calls)
    assert spy.calls == [([(TEXT, b"one")], frame(PING, b"p"))]
    assert theirs.recv(100) == b"answer"
    assert spy.unsent is None
    assert (turns.counters.bytes_in, turns.counters.bytes_out) == (9 + 7, 6)
    turns.forget(spy)


def test_all_that_are_ready_are_told_before_the_first_answer_leaves(turns: Turns) -> None:
    seen: list[bytes] = []

    def look(spy: Spy) -> None:
        spy.unsent = b"x"
        for other in others:
            try:
                seen.append(other.recv(10))
            except BlockingIOError:
                seen.append(b"")

    pairs = [turns.pair(look) for _ in range(4)]
    others = [theirs for _, theirs in pairs]
    for other in others:
        other.send(frame(TEXT, b"x"))
    until(lambda: len(seen) == 16)
    assert set(seen) == {b""}
    assert [other.recv(10) for other in others] == [b"x"] * 4
    for spy, _ in pairs:
        turns.forget(spy)


def test_the_end_of_a_stream_is_0_and_a_reset_its_errno(turns: Turns) -> None:
    spy, theirs = turns.pair(turns.forget)
    theirs.close()
    until(lambda: spy.calls)
    assert spy.calls == [0]
    reset, other = turns.pair(turns.forget)
    reset.sock.send(b"never read")
    other.close()
    until(lambda: reset.calls)
    assert reset.calls == [errno.ECONNRESET]


def test_a_full_socket_is_told_how_much_it_took(turns: Turns) -> None:
    large = b"x" * 5_000_000
    spy, theirs = turns.pair(lambda spy: setattr(spy, "unsent", large))
    theirs.send(frame(TEXT, b"x"))
    until(lambda: len(spy.calls) == 2)
    size, sent = spy.calls[1]
    assert size == len(large)
    assert 0 < sent < size
    assert turns.counters.bytes_out == sent
    theirs.send(frame(TEXT, b"x"))
    until(lambda: len(spy.calls) == 4)
    assert spy.calls[3] == (size, 0)
    turns.forget(spy)


def test_a_broken_socket_is_told_its_errno(turns: Turns) -> None:
    def answer(spy: Spy) -> None:
        theirs.close()
        spy.unsent = b"x"

    spy, theirs = turns.pair(answer)
    theirs.send(frame(TEXT, b"x"))
    until(lambda: len(spy.calls) >= 2)
    assert spy.calls[1] == (1, -errno.EPIPE)
    turns.forget(spy)


@pytest.mark.parametrize("change", [("plain_limit", -1), ("descriptor", -1)])
def test_a_line_that_is_not_plain_is_read_by_python(turns: Turns, change: tuple[str, int]) -> None:
    spy, theirs = turns.pair(lambda spy: turns.poller.forget(spy.sock.fileno()))
    setattr(spy, *change)
    theirs.send(frame(TEXT, b"x"))
    until(lambda: spy.calls)
    assert spy.calls == ["readable"]


def test_an_exception_is_logged_and_the_others_are_served(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    def fail(spy: Spy) -> None:
        spy.unsent = b"still sent"
        raise RuntimeError("broken owner")

    _, bad_theirs = turns.pair(fail)
    good, good_theirs = turns.pair(lambda spy: setattr(spy, "unsent", b"fine"))
    for theirs in (bad_theirs, good_theirs):
        theirs.send(frame(TEXT, b"x"))
    until(lambda: good.calls)
    assert good_theirs.recv(10) == b"fine"
    assert len(turns.poller) == 1
    assert "broken owner" in caplog.text
    assert "in fail" in caplog.text, "with its traceback"
    turns.forget(good)


def test_a_read_for_which_there_is_no_memory_is_reported_and_is_not_taken_for_the_streams_end(
    turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    testcapi = pytest.importorskip("_testcapi")
    spies = []
    for nth in range(30):  # the allocation that fails
        spy, theirs = turns.pair(turns.forget)
        theirs.send(frame(BINARY, b"x" * 300) + frame(TEXT, "ä".encode()) + frame(PING))
        with suppress(MemoryError):
            testcapi.set_nomemory(nth, nth + 1)
            turns.poller._on_ready()
        testcapi.remove_mem_hooks()
        turns.forget(spy)
        spies.append(spy)
    assert not any(0 in spy.calls for spy in spies)
    failed = [spy for spy in spies if errno.ENOMEM in spy.calls]
    assert failed
    assert all(spy.calls == ["failed", errno.ENOMEM] for spy in failed)
    assert caplog.text.count("MemoryError") >= len(failed)


def test_a_base_exception_ends_the_turn_and_what_was_said_before_it_leaves(turns: Turns) -> None:
    class Stop(BaseException):
        pass

    def stop(_spy: Spy) -> None:
        raise Stop

    first, first_theirs = turns.pair(lambda spy: setattr(spy, "unsent", b"said"))
    second, second_theirs = turns.pair(stop)
    for theirs in (first_theirs, second_theirs):
        theirs.send(frame(TEXT, b"x"))
    with pytest.raises(Stop):
        turns.poller._on_ready()
    assert first_theirs.recv(10) == b"said"
    for spy in (first, second):
        turns.forget(spy)


def test_more_are_ready_than_one_turn_or_one_chunk_takes(turns: Turns) -> None:
    pairs = [turns.pair(lambda spy: setattr(spy, "unsent", b"x")) for _ in range(600)]
    for _, theirs in pairs:
        theirs.send(frame(TEXT, b"x"))
    until(lambda: all(len(spy.calls) == 1 for spy, _ in pairs))
    assert all(theirs.recv(10) == b"x" for _, theirs in pairs)
    for spy, _ in pairs:
        turns.forget(spy)


def test_an_unsent_that_is_not_bytes_is_left_alone(turns: Turns) -> None:
    spy, theirs = turns.pair(lambda spy: setattr(spy, "unsent", bytearray(b"x")))
    theirs.send(frame(TEXT, b"x"))
    until(lambda: spy.calls)
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
    turns.forget(spy)


def test_a_line_begins_as_gone() -> None:
    line = fast.Line()
    assert (line.descriptor, line.plain_limit, line.unsent) == (-1, -1, None)


def test_large_messages_are_answered_before_much_more_is_read(turns: Turns) -> None:
    """32 connections at 16 KiB, read together, were pages that the allocator gave back and took again each turn."""
    reads: list[int] = []
    pairs = [turns.pair(lambda spy: (setattr(spy, "unsent", b"x"), reads.append(unread()))) for _ in range(32)]

    def unread() -> int:
        """How many connections are still to be read now."""
        return sum(len(spy.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) for spy, _ in pairs if waits(spy))

    def waits(spy: Spy) -> bool:
        try:
            return bool(spy.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    for spy, theirs in pairs:
        spy.plain_limit = 65536
        theirs.send(frame(BINARY, bytes(16384)))
    until(lambda: len(reads) == 32)
    assert reads[0] >= 28, "three of 16 KiB were read before the first was told, at most"
    assert reads[-1] == 0
    for spy, _ in pairs:
        turns.forget(spy)
