"""`Sock` as flask-sock's users know it: their examples, behind an Acceptor and on plain pywsgi."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask_sock
import gevent
import pytest
from flask import Blueprint, Flask, Response, got_request_exception, request
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from ringway.core.errors import InvalidInput
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.sock import ConnectionClosed, Sock, WebSocket
from tests.ws_server.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.ws_server.serving import HEAD, Port, handshake, serving, until

Serve = Callable[[Flask], Any]


@contextmanager
def behind_acceptor(app: Flask) -> Iterator[Port]:
    with serving(app=app) as port:
        yield port


@contextmanager
def on_pywsgi(app: Flask) -> Iterator[Port]:
    """flask-sock's own way to run on gevent: WSGIServer(...).serve_forever()."""
    errors: list[str] = []
    log = type("Log", (), {"write": staticmethod(errors.append)})()
    server = WSGIServer(("127.0.0.1", 0), app, spawn=Pool(20), log=None, error_log=log)
    server.start()

    class Address:
        address = ("127.0.0.1", server.server_port)

    try:
        yield Port(Address(), None)  # type: ignore[arg-type]
    finally:
        server.stop(timeout=1.0)
        assert errors == []


@pytest.fixture(params=[behind_acceptor, on_pywsgi], ids=["acceptor", "pywsgi"])
def serve(request: pytest.FixtureRequest) -> Any:
    return request.param


def echo(ws: Any) -> None:
    while True:
        data = ws.receive()
        if data == "close":
            break
        ws.send(data)


def echo_app() -> Flask:
    app = Flask(__name__)
    Sock(app).route("/echo")(echo)
    app.add_url_rule("/", view_func=lambda: "index", endpoint="index")
    return app


def test_the_echo_example(serve: Serve) -> None:
    with serve(echo_app()) as port:
        client = port.connect("/echo")
        client.text("hello")
        assert client.read() == (TEXT, b"hello")
        client.send(frame(BINARY, b"\xff\x00"))
        assert client.read() == (BINARY, b"\xff\x00")
        client.text("close")
        assert client.read() == (CLOSE, b"\x03\xe8")
        client.send(close_frame(1000))
        assert client.read_all() == []
        client.sock.close()
        assert port.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"index")


def test_the_blueprint_example_with_a_late_init_app(serve: Serve) -> None:
    sock = Sock()
    sock.route("/echo")(echo)
    app = Flask(__name__)
    sock.init_app(app)
    with serve(app) as port:
        client = port.connect("/echo")
        client.text("hello")
        assert client.read() == (TEXT, b"hello")
        client.goodbye()


def test_a_route_on_a_named_blueprint_with_path_variables(serve: Serve) -> None:
    app, bp, sock = Flask(__name__), Blueprint("bp", __name__), Sock()

    @sock.route("/room/<name>", bp=bp)
    def room(ws: WebSocket, name: str) -> None:
        ws.send(f"{name} {request.args['who']}")

    sock.init_app(app)
    app.register_blueprint(bp, url_prefix="/bp")
    with serve(app) as port:
        client = port.connect("/bp/room/blue?who=alice")
        assert client.read() == (TEXT, b"blue alice")
        assert client.goodbye() == [(CLOSE, b"\x03\xe8")]


def test_the_clock_example_sends_from_another_thread(serve: Serve) -> None:
    app = Flask(__name__)
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
    threads: list[threading.Thread] = []

    @Sock(app).route("/echo")
    def clock(ws: WebSocket) -> None:
        def send_time() -> None:
            ws.send(json.dumps({"type": "clock"}))

        threads.append(threading.Thread(target=send_time))
        threads[-1].start()
        while (data := ws.receive()) != "close":
            ws.send(json.dumps({"type": "log", "text": data}))

    with serve(app) as port:
        client = port.connect("/echo")
        assert json.loads(client.read()[1]) == {"type": "clock"}
        client.text("x")
        assert json.loads(client.read()[1]) == {"type": "log", "text": "x"}
        client.text("close")
        client.goodbye()
        threads[0].join()


def test_registration_is_flask_socks() -> None:
    for module in (flask_sock.Sock, Sock):
        direct, late = Flask(__name__, static_folder=None), Flask(__name__, static_folder=None)
        sock = module(direct)
        sock.route("/ws")(echo)
        assert (sock.app, sock.bp) == (direct, None)
        other = module()
        other.route("/ws")(echo)
        assert other.bp is not None
        other.init_app(late)
        for app in (direct, late):
            rule = next(iter(app.url_map.iter_rules()))
            assert (rule.rule, rule.websocket) == ("/ws", True)


def test_receive_with_a_timeout_and_without_waiting(serve: Serve) -> None:
    app = Flask(__name__)
    answers: list[Any] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        answers.append(ws.receive(timeout=0))
        started = time.monotonic()
        answers.append(ws.receive(timeout=0.05))
        answers.append(time.monotonic() - started >= 0.05)
        ws.send("ready")
        answers.append(ws.receive(timeout=5))

    with serve(app) as port:
        client = port.connect("/x")
        assert client.read() == (TEXT, b"ready")
        client.text("now")
        client.goodbye()
        assert answers == [None, None, True, "now"]


def test_the_clients_close_raises_connection_closed_after_what_came_before_it(serve: Serve) -> None:
    app = Flask(__name__)
    seen: list[Any] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        ws.send("ready")
        until(lambda: not ws.connected)
        seen.append(ws.receive())
        for method in (ws.receive, lambda: ws.send("x"), ws.close):
            with pytest.raises(ConnectionClosed) as caught:
                method()
            seen.append((caught.value.reason, caught.value.message))

    with serve(app) as port:
        client = port.connect("/x")
        client.read()
        client.send(frame(TEXT, b"last") + close_frame(4000, b"bye"))
        assert client.read_all() == [(CLOSE, b"\x0f\xa0")]
        client.sock.close()
        until(lambda: len(seen) == 4)
        assert seen == ["last", (4000, "bye"), (4000, "bye"), (4000, "bye")]


def test_a_client_that_vanishes_wakes_receive(serve: Serve) -> None:
    app = Flask(__name__)
    seen: list[Any] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        try:
            ws.receive()
        except ConnectionClosed as closed:
            seen.append(closed.reason)
            raise

    with serve(app) as port:
        port.connect("/x").reset()
        until(lambda: seen == [1006])


def test_close_from_another_greenlet_wakes_receive(serve: Serve) -> None:
    app = Flask(__name__)
    ended: list[float] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        gevent.spawn_later(0.05, ws.close, 4001, "out")
        started = time.monotonic()
        with pytest.raises(ConnectionClosed):
            ws.receive()
        ended.append(time.monotonic() - started)

    with serve(app) as port:
        client = port.connect("/x")
        assert client.read() == (CLOSE, b"\x0f\xa1out")
        client.goodbye()
        assert until(lambda: ended)[0] < 1.0


def test_an_exception_is_flasks_and_nothing_of_http_reaches_the_socket(serve: Serve) -> None:
    app = Flask(__name__)
    told: list[BaseException] = []
    got_request_exception.connect(lambda sender, exception: told.append(exception), app, weak=False)
    app.logger.disabled = True

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        raise ValueError("broken route")

    with serve(app) as port:
        client = port.connect("/x")
        client.send(close_frame(1011))
        assert client.read_all() == [(CLOSE, b"\x03\xf3internal error")]
        client.sock.close()
        assert [str(error) for error in told] == ["broken route"]


def test_after_the_upgrade_pywsgi_writes_nothing(serve: Serve) -> None:
    app = echo_app()

    @app.after_request
    def header(response: Response) -> Response:
        response.headers["X-Late"] = "yes"
        response.set_cookie("late", "yes")
        return response

    with serve(app) as port:
        client = port.connect("/echo")
        client.text("close")
        client.send(frame(TEXT, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        client.send(close_frame(1000))
        assert client.read_all() == [(CLOSE, b"\x03\xe8")]
        client.sock.close()


def test_early_data_is_not_lost_between_pywsgi_and_the_route(serve: Serve) -> None:
    with serve(echo_app()) as port:
        client = port.connect("/echo", early=frame(TEXT, b"early"))
        assert client.read() == (TEXT, b"early")
        client.goodbye()


@pytest.mark.parametrize(
    ("known", "offered", "chosen"),
    [(["b", "c"], "a, c, b", "c"), ("a", "a", "a"), ([], "a", None), (["x"], "a", None)],
)
def test_subprotocols(serve: Serve, known: Any, offered: str, chosen: str | None) -> None:
    app = Flask(__name__)
    app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": known}
    Sock(app).route("/x")(lambda ws: ws.send(str(ws.subprotocol)))
    with serve(app) as port:
        client, head = handshake(port.raw(), "/x", f"Sec-WebSocket-Protocol: {offered}\r\n")
        assert (f"Sec-WebSocket-Protocol: {chosen}" in head) == (chosen is not None)
        assert client.read() == (TEXT, str(chosen).encode())
        client.goodbye()


def test_the_size_limit_is_1009_and_there_is_none_by_default(serve: Serve) -> None:
    limited, unlimited = echo_app(), echo_app()
    limited.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": 100}
    with serve(limited) as port:
        client = port.connect("/echo")
        client.send(frame(TEXT, b"x" * 101))
        assert client.read()[1][:2] == b"\x03\xf1"
        client.sock.close()
    with serve(unlimited) as port:
        client = port.connect("/echo")
        client.send(frame(BINARY, b"x" * 3_000_000))
        assert client.read() == (BINARY, b"x" * 3_000_000)
        client.goodbye()


def test_a_slow_reader_gets_every_message_and_the_route_waits_for_it(serve: Serve) -> None:
    app = Flask(__name__)
    sent: list[int] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        for number in range(5000):
            ws.send(f"{number:05d}" + "." * 9995)
            sent.append(number)

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        gevent.sleep(0.3)
        assert len(sent) < 2000
        assert [client.read()[1][:5] for _ in range(5000)] == [b"%05d" % at for at in range(5000)]
        client.goodbye()


def test_all_greenlets_that_wait_for_a_slow_client_go_on_when_it_has_read(serve: Serve) -> None:
    app = Flask(__name__)
    sent: list[int] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        def send(number: int) -> None:
            ws.send(bytes(3_000_000))
            sent.append(number)

        gevent.joinall([gevent.spawn(send, number) for number in range(3)])
        ws.send("all sent")

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        assert [client.read()[0] for _ in range(3)] == [BINARY] * 3
        assert client.read() == (TEXT, b"all sent")
        assert sent == [0, 1, 2]
        client.goodbye()


def test_all_greenlets_that_wait_for_a_slow_client_are_told_when_it_is_gone(serve: Serve) -> None:
    app = Flask(__name__)
    told: list[int] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        def send() -> None:
            with pytest.raises(ConnectionClosed) as closed:
                ws.send(bytes(8_000_000))
            told.append(closed.value.reason)

        gevent.joinall([gevent.spawn(send) for _ in range(3)])

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        client.read()
        client.reset()
        until(lambda: told == [1006] * 3)


def test_a_close_code_that_must_not_travel_is_an_error_and_closes_nothing(serve: Serve) -> None:
    app = Flask(__name__)

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        with pytest.raises(InvalidInput, match="code=1006"):
            ws.close(1006)
        ws.send("still open")
        ws.close(4000, "\ud800bye")

    with serve(app) as port:
        client = port.connect("/x")
        assert client.read() == (TEXT, b"still open")
        assert client.goodbye() == [(CLOSE, b"\x0f\xa0?bye")]


def test_a_route_that_does_not_receive_holds_its_client_back() -> None:
    app = Flask(__name__)
    sockets: list[WebSocket] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sockets.append(ws)
        gevent.sleep(0.3)
        for number in range(400):
            assert ws.receive() == f"{number:04d}" + "x" * 9996

    with behind_acceptor(app) as port:
        client = port.connect("/x")
        messages = b"".join(frame(TEXT, b"%04d" % number + b"x" * 9996) for number in range(400))
        sender = gevent.spawn(client.send, messages)
        gevent.sleep(0.2)
        assert sockets[0]._inbox_size < 2_000_000
        assert client.read() == (CLOSE, b"\x03\xe8")
        sender.get(timeout=5)
        client.goodbye()


def test_empty_messages_hold_their_client_back_too(serve: Serve) -> None:
    app = Flask(__name__)
    sockets: list[WebSocket] = []
    go = gevent.event.Event()
    count = 100_000

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sockets.append(ws)
        go.wait()
        assert [ws.receive() for _ in range(count)] == [""] * count

    with serve(app) as port:
        client = port.connect("/x")
        sender = gevent.spawn(client.send, frame(TEXT) * count)
        until(lambda: sockets and sockets[0]._connection.paused)
        assert len(sockets[0]._inbox) < 30_000
        go.set()
        assert client.read() == (CLOSE, b"\x03\xe8")
        sender.get(timeout=5)
        client.goodbye()


def test_threads_that_send_wait_for_a_slow_client(serve: Serve) -> None:
    app = Flask(__name__)
    sockets: list[WebSocket] = []
    sent: list[int] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.receive()

    def flood(thread: int) -> None:
        for number in range(200):
            sockets[0].send(b"%d %04d" % (thread, number) + bytes(50_000))
            sent.append(number)

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        until(lambda: sockets)
        threads = [threading.Thread(target=flood, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: sockets[0]._connection.buffered > 1 << 20)
        gevent.sleep(0.2)
        assert sockets[0]._connection.buffered < 2 << 20
        assert len(sent) < 400
        assert sorted(client.read()[1][:6] for _ in range(400)) == [
            b"%d %04d" % (thread, number) for thread in range(2) for number in range(200)
        ]
        until(lambda: not any(thread.is_alive() for thread in threads))
        client.text("done")
        client.goodbye()


def test_a_thread_that_waits_for_a_client_is_told_when_it_is_gone(serve: Serve) -> None:
    app = Flask(__name__)
    sockets: list[WebSocket] = []
    told: list[str] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.receive()

    def flood() -> None:
        try:
            while True:
                sockets[0].send(bytes(1_000_000))
        except ConnectionClosed:
            told.append("closed")

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        until(lambda: sockets)
        thread = threading.Thread(target=flood)
        thread.start()
        until(lambda: sockets[0]._connection.buffered > 1 << 20)
        client.reset()
        until(lambda: told == ["closed"])
        thread.join()


def test_what_cannot_wait_closes_a_client_that_is_behind(serve: Serve) -> None:
    app = Flask(__name__)
    sockets: list[WebSocket] = []
    told: list[int] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.receive()

    def flood() -> None:
        try:
            for _ in range(100):
                sockets[0].send(bytes(100_000))
        except ConnectionClosed as closed:
            told.append(closed.reason)

    with serve(app) as port:
        client = port.connect("/x", receive_bytes=16384)
        until(lambda: sockets)
        gevent.get_hub().loop.run_callback(flood)
        until(lambda: told == [4101])
        while (got := client.read())[0] != CLOSE:
            assert got == (BINARY, bytes(100_000))
        assert got == (CLOSE, b"\x10\x05")
        client.goodbye()


def test_pings_are_on_by_default_and_their_interval_is_an_option() -> None:
    app = echo_app()
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 0.2}
    with behind_acceptor(app) as port:
        client = port.connect("/echo")
        assert client.read() == (PING, b"")
        client.send(frame(PONG))
        assert client.read() == (PING, b"")
        assert client.read()[1][:2] == b"\x10\x68"
        client.goodbye()


def test_a_broken_handshake_is_an_http_answer(serve: Serve) -> None:
    with serve(echo_app()) as port:
        request = (
            HEAD.format(path="/echo", extra="Connection: close\r\n").replace("Sec-WebSocket-Key", "X-Nothing").encode()
        )
        sock = port.raw()
        sock.sendall(request)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
        sock.close()


@pytest.mark.parametrize("body", ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("path", ["directly", "late", "route"])
def test_an_upgrade_with_a_body_is_refused_on_every_path(path: str, body: str) -> None:
    with behind_acceptor(echo_app()) as port:
        sock = port.raw()
        if path == "late":
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(65536).endswith(b"index")
        sock.sendall(HEAD.format(path="/echo" if path == "route" else "/ws", extra=body).encode())
        sock.sendall(b"5\r\nhello\r\n0\r\n\r\n" if "chunked" in body else b"hello")
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"a handshake has no body" in answer
        sock.close()


def test_the_websockets_of_routes_take_no_requests_place() -> None:
    with serving(app=echo_app(), limits=Limits(wsgi_requests=2)) as port:
        clients = [port.connect("/echo") for _ in range(5)]
        for client in clients:
            client.text("hello")
            assert client.read() == (TEXT, b"hello")
        assert port.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"index")
        for client in clients:
            client.goodbye()


def test_a_route_that_never_ends_is_ended_with_its_port() -> None:
    app = Flask(__name__)
    ended: list[str] = []

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        try:
            gevent.event.Event().wait()
        finally:
            ended.append("route")

    with behind_acceptor(app) as port:
        client = port.connect("/x")
    assert ended == ["route"]
    client.sock.close()


def test_a_route_over_the_ports_connection_limit_is_503() -> None:
    with serving(app=echo_app(), limits=Limits(connections=2)) as port:
        stay = [port.connect("/echo"), port.connect()]
        sock = port.raw()
        sock.sendall(HEAD.format(path="/echo", extra="").encode())
        answer = sock.recv(65536)
        sock.close()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 2\r\n" in answer
        assert port.counters.refused == {"node full": 1}
        stay[0].goodbye()
        until(lambda: port.counters.open == 1)
        port.connect("/echo").goodbye()
        stay[1].goodbye()


def test_the_ports_origins_hold_for_routes_too() -> None:
    """A page of another site could open the socket otherwise, with the user's cookies."""
    with serving(app=echo_app(), limits=Limits(origins=frozenset({"https://a"}))) as port:
        with pytest.raises(AssertionError, match=r"HTTP/1\.1 403 "):
            port.connect("/echo", extra="Origin: https://b\r\n")
        port.connect("/echo", extra="Origin: https://a\r\n").goodbye()
        port.connect("/echo").goodbye()


def test_under_another_server_it_is_flask_sock_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Server:
        mode = "werkzeug"

        def __init__(self, environ: dict[str, Any], **options: Any) -> None:
            made.append(environ)

        def close(self) -> None: ...

    monkeypatch.setattr(flask_sock, "Server", Server)
    app = Flask(__name__)
    Sock(app).route("/x")(lambda ws: None)
    app.test_client().get("/x", headers={"Upgrade": "websocket", "Connection": "Upgrade"}, base_url="ws://localhost")
    assert len(made) == 1


def test_connections_of_routes_are_counted_with_the_ports() -> None:
    with behind_acceptor(echo_app()) as port:
        client = port.connect("/echo")
        until(lambda: port.counters.open == 1)
        client.goodbye()
        until(lambda: port.counters.open == 0)
        assert port.counters.closed == {("1000", "client"): 1}
