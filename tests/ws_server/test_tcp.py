"""What the kernel tells of real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from math import inf

import pytest

from ringway.ws_server.patience import Flow
from ringway.ws_server.tcp import flow
from tests.ws_server.serving import until
from tests.ws_server.tcp_info import needs_tcp_info

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Ours, and the client's, which takes little unless it reads."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        theirs.connect(server.getsockname())
        ours, _ = server.accept()
        with ours:
            ours.setblocking(False)
            yield ours, theirs


def fill(sock: socket.socket) -> int:
    """How much it took."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        return sent


@needs_tcp_info
def test_all_that_is_sent_is_taken_or_waits(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(bytes(100))
    until(lambda: flow(ours, 0)[:2] == (100, 0))
    sent = 100 + fill(ours)
    before = flow(ours, 7)
    assert before.taken + before.waiting == sent + 7
    assert before.waiting > 1000
    theirs.settimeout(5.0)
    left = 200_000
    while left > 0:
        left -= len(theirs.recv(65536))
    until(lambda: flow(ours, 0).taken > before.taken)
    after = flow(ours, 0)
    assert after.taken + after.waiting == sent


@needs_tcp_info
def test_what_the_client_sends_is_seen_before_it_is_read(pair: Pair) -> None:
    ours, theirs = pair
    until(lambda: flow(ours, 0).received_s > 0.05)
    theirs.send(b"x")
    until(lambda: flow(ours, 0).received_s < 0.05)


def test_where_the_kernel_does_not_tell_our_own_queue_does() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert flow(ours, 300) == Flow(-300, 300, inf, inf)
    assert flow(ours, 0) == Flow(0, 0, inf, inf)
