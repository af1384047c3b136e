"""Clients that leave in every rude way, over and over: descriptors, greenlets, watchers, timers and memory return.

`RINGWAY_RUDE_CYCLES` says how many connections in all (1,280 unless told; `make fuzz` takes 24,000).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from math import ceil
from socket import SHUT_WR
from typing import Any

import gevent
import pytest

from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Handshake
from ringway.ws_server.wire import encode_binary
from tests.ws_server.frames import BINARY, TEXT, close_frame, frame
from tests.ws_server.memory import resident
from tests.ws_server.serving import HEAD, Client, Echo, Port, serving, until

CYCLES = int(os.environ.get("RINGWAY_RUDE_CYCLES", "1280"))
CROWD = 40  # at a time
LIMITS = Limits(ping_s=0.3, pong_s=0.2, close_s=0.2, handshake_s=0.3, wsgi_s=0.3, queue_bytes=100_000)
GOOD = HEAD.format(path="/ws", extra="").encode()


class Forgetful(Echo):
    """Keeps no record of connections, which would hold them in memory; floods those who ask."""

    def on_request(self, request: Handshake) -> Any:
        return self.verdict

    def on_open(self, connection: Connection, request: Handshake) -> None: ...

    def on_close(self, connection: Connection, code: int, reason: str, cause: str) -> None: ...

    def on_text(self, connection: Connection, payload: bytes) -> None:
        if payload == b"flood":
            for _ in range(200):
                connection.send_frame(encode_binary(b"x" * 50_000))
        elif payload == b"close":
            connection.close(4300)


def reset_before_a_word(port: Port) -> Any:
    Client(port.raw()).reset()


def reset_in_the_handshake(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(GOOD[:60])
    Client(sock).reset()


def reset_right_after_the_request(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(GOOD)
    Client(sock).reset()


def half_close_in_the_handshake(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(GOOD[:5])
    sock.shutdown(SHUT_WR)
    return sock


def stall_in_the_handshake(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(GOOD[:100])
    return sock


def reset_in_a_frame(port: Port) -> Any:
    client = port.connect()
    client.send(frame(BINARY, b"x" * 30_000)[:20_000])
    client.reset()


def reset_in_a_fragmented_message(port: Port) -> Any:
    client = port.connect()
    client.send(frame(BINARY, b"x" * 30_000, fin=False))
    client.reset()


def half_close(port: Port) -> Any:
    client = port.connect()
    client.sock.shutdown(SHUT_WR)
    return client.sock


def never_pong(port: Port) -> Any:
    return port.connect().sock


def never_read(port: Port) -> Any:
    client = port.connect(receive_bytes=4096)
    client.text("flood")
    return client.sock


def reset_while_much_is_queued(port: Port) -> Any:
    client = port.connect(receive_bytes=4096)
    client.text("flood")
    client.reset()


def never_answer_the_close(port: Port) -> Any:
    client = port.connect()
    client.text("close")
    return client.sock


def break_the_protocol_and_stay(port: Port) -> Any:
    client = port.connect()
    client.send(frame(5) + b"\xff" * 1000)
    return client.sock


def close_and_go_on_sending(port: Port) -> Any:
    client = port.connect()
    client.send(close_frame(1000) + frame(TEXT, b"more") * 100)
    return client.sock


def speak_tls_to_a_plain_port(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64))
    return sock


def stall_before_pywsgi(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost")
    return sock


KINDS: list[Callable[[Port], Any]] = [
    reset_before_a_word,
    reset_in_the_handshake,
    reset_right_after_the_request,
    half_close_in_the_handshake,
    stall_in_the_handshake,
    reset_in_a_frame,
    reset_in_a_fragmented_message,
    half_close,
    never_pong,
    never_read,
    reset_while_much_is_queued,
    never_answer_the_close,
    break_the_protocol_and_stay,
    close_and_go_on_sending,
    speak_tls_to_a_plain_port,
    stall_before_pywsgi,
]


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def settled(port: Port) -> bool:
    endpoint = port.acceptor.endpoint
    assert port.acceptor._wsgi is not None
    requests = len(port.acceptor._wsgi._pool)
    waiting = len(endpoint.poller) + len(endpoint.heartbeat)
    return not (endpoint.counters.open or endpoint.counters.handshakes or waiting or requests)


def inventory() -> tuple[int, int]:
    """Descriptors, and greenlets that are not dead."""
    gc.collect()
    live = sum(isinstance(each, gevent.Greenlet) and not each.dead for each in gc.get_objects())
    return len(os.listdir("/proc/self/fd")), live


def crowd(port: Port, kind: Callable[[Port], Any], size: int) -> None:
    held = [kind(port) for _ in range(size)]
    until(lambda: settled(port), 15.0)
    for sock in held:
        if sock is not None:
            sock.close()


@pytest.mark.timeout(3600)
def test_rude_clients_leave_nothing_behind() -> None:
    with serving(Forgetful(), LIMITS, app) as port:
        for kind in KINDS:  # once over, so that caches and arenas have their size
            crowd(port, kind, CROWD)
        until(lambda: settled(port))
        before = inventory()
        memory = resident()
        rounds = ceil(CYCLES / (len(KINDS) * CROWD))
        for number in range(rounds):
            for kind in KINDS:
                crowd(port, kind, CROWD)
            print(f"round {number + 1} of {rounds}", flush=True)
        until(lambda: settled(port))
        grown = resident() - memory
        counters = port.counters
        print(
            f"{rounds * len(KINDS) * CROWD} rude cycles: rss grew by {grown >> 10} KiB; closed {dict(counters.closed)}"
        )
        assert inventory() == before
        assert counters.queue_bytes == 0
        assert counters.open == 0
        assert grown < 8 << 20
        polite = port.connect()
        polite.goodbye()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_alone_is_cleaned_up_and_disturbs_nobody(kind: Callable[[Port], Any]) -> None:
    with serving(Forgetful(), LIMITS, app) as port:
        before = inventory()
        crowd(port, kind, 3)
        until(lambda: inventory() == before)
        port.connect().goodbye()
        until(lambda: settled(port))
