"""The timer wheel with made-up clocks, and pings on real connections."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from random import Random

import gevent
import pytest

from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Handshake
from ringway.ws_server.heartbeat import STALL_S, Heartbeat, TimerWheel
from ringway.ws_server.wire import encode_binary
from tests.ws_server.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.ws_server.serving import Client, Echo, Port, serving, until
from tests.ws_server.tcp_info import needs_tcp_info


def test_nothing_fires_early_and_nothing_more_than_a_tick_late() -> None:
    random = Random(1)
    wheel: TimerWheel[int] = TimerWheel(100.0, tick_s=0.1)
    due = {item: 100.0 + random.random() * 30 for item in range(2000)}
    for item, when in due.items():
        wheel.add(item, when)
    now = 100.0
    while len(wheel):
        now += random.random() * 0.3
        for item in wheel.advance(now):
            assert due.pop(item) <= now
        assert all(when > now - 0.11 for when in due.values())
    assert not due


def test_a_far_deadline_waits_its_time() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.0, tick_s=1.0)
    wheel.add("far", 30.0)
    fired = [now for now in range(1, 60) if wheel.advance(float(now))]
    assert fired == [30]


def test_a_removed_entry_does_not_fire_and_removing_it_twice_is_no_error() -> None:
    wheel: TimerWheel[str] = TimerWheel(0.0, tick_s=1.0)
    token = wheel.add("a", 2.0)
    wheel.remove("a", token)
    wheel.remove("a", token)
    assert wheel.advance(10.0) == []
    assert len(wheel) == 0


def test_an_entry_in_the_past_fires_at_the_next_tick() -> None:
    wheel: TimerWheel[str] = TimerWheel(100.0, tick_s=1.0)
    wheel.add("late", 3.0)
    assert wheel.advance(100.5) == []
    assert wheel.advance(101.0) == ["late"]


@pytest.mark.parametrize("jump", [7.0, 8.0, 1000.0, 1e9])
def test_a_clock_that_jumps_ahead_fires_everything_due_once(jump: float) -> None:
    wheel: TimerWheel[int] = TimerWheel(0.0, tick_s=1.0)
    for item in range(7):
        wheel.add(item, item + 1.0)
    assert sorted(wheel.advance(jump)) == list(range(7))
    assert wheel.advance(jump + 20) == []


def test_a_clock_that_stands_still_or_goes_back_fires_nothing() -> None:
    wheel: TimerWheel[str] = TimerWheel(50.0, tick_s=1.0)
    wheel.add("a", 52.0)
    assert wheel.advance(50.0) == []
    assert wheel.advance(10.0) == []
    assert wheel.advance(52.0) == ["a"]


def test_advancing_touches_only_what_is_due() -> None:
    class Counted:
        compared = 0

        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            Counted.compared += 1
            return self.number

    wheel: TimerWheel[Counted] = TimerWheel(0.0)
    for number in range(10_000):
        wheel.add(Counted(number), 25.0 + number / 1000)
    Counted.compared = 0
    assert wheel.advance(24.9) == []
    assert Counted.compared == 0
    assert len(wheel.advance(25.1)) in range(90, 112)
    assert Counted.compared < 300


def test_one_broken_callback_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    fired: list[str] = []

    class Item:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_due(self, now: float) -> None:
            fired.append(self.name)
            if self.name == "broken":
                raise RuntimeError("no")

    heartbeat = Heartbeat(gevent.get_hub().loop, tick_s=0.01)
    try:
        for name in ("broken", "whole"):
            heartbeat.schedule(Item(name), 0.02)
        until(lambda: len(fired) == 2)
        assert "deadline of" in caplog.text
        until(lambda: not heartbeat._running)
        heartbeat.schedule(Item("again"), 0.01)
        until(lambda: fired[-1] == "again")
    finally:
        heartbeat.close()


# -- on connections


QUICK = Limits(ping_s=0.3, pong_s=0.2, close_s=0.3)


def pinged(port: Port, seconds: float) -> int:
    """How many pings a client that answers them gets."""
    client = port.connect()
    client.sock.settimeout(seconds)
    count = 0
    with suppress(gevent.Timeout), gevent.Timeout(seconds):
        while client.read() == (PING, b""):
            count += 1
            client.send(frame(PONG))
    client.sock.close()
    return count


def test_a_client_that_answers_its_pings_stays() -> None:
    with serving(limits=QUICK) as port:
        assert pinged(port, 2.0) in range(3, 9)
        assert port.counters.closed == {} or set(port.counters.closed) == {("1006", "eof")}


def test_no_pong_in_time_is_4200() -> None:
    with serving(limits=QUICK) as port:
        client = port.connect()
        assert client.read_all() == [(PING, b""), (CLOSE, b"\x10\x68")]
        client.sock.close()
        until(lambda: port.handler.closed == [(4200, "", "no pong")])


PATIENT = Limits(ping_s=0.6, pong_s=0.5, close_s=0.3, queue_bytes=None)


class Pushing(Echo):
    """Sends 8 MB at once to whoever opens."""

    def on_open(self, connection: Connection, request: Handshake) -> None:
        super().on_open(connection, request)
        for _ in range(80):
            connection.send_frame(encode_binary(bytes(100_000)))


def read_slowly(client: Client) -> float:
    """Read what `Pushing` sent at 3 MB a second, and answer pings where they come; how long that took."""
    started, got = time.monotonic(), 0
    while got < 80:
        kind, _ = client.read()
        got += kind == BINARY
        if kind == PING:
            client.send(frame(PONG))
        gevent.sleep(0.03)
    return time.monotonic() - started


def test_a_client_that_reads_slowly_stays_though_its_ping_waits_behind_much() -> None:
    with serving(Pushing(), PATIENT) as port:
        client = port.connect(receive_bytes=16384)
        assert read_slowly(client) > PATIENT.pong_s * 3
        assert port.handler.closed == []
        client.goodbye()


def test_a_client_that_never_reads_is_closed_with_4200_while_its_ping_still_waits_here() -> None:
    with serving(Pushing(), replace(QUICK, queue_bytes=None)) as port:
        client = port.connect(receive_bytes=16384)
        until(lambda: port.handler.closed == [(4200, "", "no pong")])
        client.sock.close()


def talk(client: Client, seconds: float) -> bool:
    """Go on sending, and read, but no pong. Returns whether the node said goodbye before the time was over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.text("talking")
        if client.read()[0] == CLOSE:
            return True
        gevent.sleep(0.02)
    return False


@needs_tcp_info
def test_a_client_that_uploads_gets_longer_for_its_pong_which_comes_after_the_upload() -> None:
    with serving(limits=PATIENT) as port:
        client = port.connect()
        assert client.read() == (PING, b"")
        talk(client, PATIENT.pong_s * 1.6)
        client.send(frame(PONG))
        assert port.handler.closed == []
        client.goodbye()
        until(lambda: port.handler.closed == [(1000, "", "client")])


@needs_tcp_info
def test_messages_stand_for_a_pong_only_for_so_long() -> None:
    with serving(limits=QUICK) as port:
        client = port.connect()
        assert client.read() == (PING, b"")
        pinged_at = time.monotonic()
        assert talk(client, 5.0)
        until(lambda: port.handler.closed)  # the close frame may be read before the handler is told
        assert port.handler.closed == [(4200, "", "no pong")]
        assert time.monotonic() - pinged_at > QUICK.pong_s * 2
        client.sock.close()


def test_a_paused_connection_is_not_closed_for_a_pong_that_nobody_reads() -> None:
    with serving(limits=QUICK) as port:
        client = port.connect()
        port.handler.opened[0].pause()
        for _ in range(3):
            assert client.read() == (PING, b"")
            client.send(frame(PONG))
        assert port.handler.closed == []
        port.handler.opened[0].resume()
        client.text("still here")
        until(lambda: port.handler.received)


def test_pongs_that_came_while_the_node_was_frozen_count() -> None:
    with serving(limits=QUICK) as port:
        client = port.connect()
        assert client.read() == (PING, b"")
        client.send(frame(PONG))
        time.sleep(STALL_S + 0.3)  # the loop itself is held up, as SIGSTOP does
        with gevent.Timeout(5.0):
            assert client.read() == (PING, b"")
            client.send(frame(PONG))
        assert port.handler.closed == []
        client.goodbye()


def test_idle_clients_leave_with_1001_and_talking_ones_stay() -> None:
    with serving(limits=Limits(ping_s=0.2, pong_s=0.1, idle_s=0.5, close_s=0.2)) as port:
        idle, talking = port.connect(), port.connect()

        def answer() -> None:
            while True:
                kind, _ = idle.read()
                if kind == CLOSE:
                    return idle.send(close_frame(1001))
                idle.send(frame(PONG))

        reader = gevent.spawn(answer)
        with gevent.Timeout(5.0):
            while not port.handler.closed:
                talking.text("x")
                if talking.read() == (PING, b""):
                    talking.send(frame(PONG))
                gevent.sleep(0.02)
        assert port.handler.closed == [(1001, "", "idle")]
        assert port.counters.open in (1, 2)
        reader.get(timeout=5.0)
        idle.sock.close()
        talking.send(frame(TEXT, b"bye"))


def test_no_timer_runs_while_there_is_nothing_to_wait_for() -> None:
    with serving(limits=Limits(ping_s=None)) as port:
        client = port.connect()
        heartbeat = port.acceptor.endpoint.heartbeat
        until(lambda: not heartbeat._running)
        assert len(heartbeat) == 0
        client.goodbye()
