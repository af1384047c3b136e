"""Applications as flask-sock's documentation writes them, with ringway's class in the place of `flask_sock.Sock`."""

from __future__ import annotations

import threading
from typing import Any

import flask_sock
import pytest
from flask import Flask

from ringway.ws_server.sock import Sock
from tests.ws_server.frames import BINARY, CLOSE, TEXT, frame
from tests.ws_server.serving import handshake, until
from tests.ws_server.test_sock import behind_acceptor, on_pywsgi

ECHO = """
from flask import Flask, render_template_string
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@app.route('/')
def index():
    return render_template_string('the page')


@sock.route('/echo')
def echo(ws):
    while True:
        data = ws.receive()
        if data == 'close':
            break
        ws.send(data)
"""

FACTORY = """
from flask import Flask
import flask_sock

sock = flask_sock.Sock()


def create_app():
    app = Flask(__name__)
    app.config['SOCK_SERVER_OPTIONS'] = {'ping_interval': 25, 'max_message_size': 100_000}
    sock.init_app(app)
    return app


@sock.route('/echo')
def echo(ws):
    while True:
        ws.send(ws.receive())


app = create_app()
"""

BLUEPRINT = """
from flask import Blueprint, Flask
from flask_sock import Sock

sock = Sock()
bp = Blueprint('room', __name__)


@sock.route('/echo', bp=bp)
def echo(ws):
    while ws.connected:
        ws.send(ws.receive())


app = Flask(__name__)
sock.init_app(app)
app.register_blueprint(bp)
"""

POLLING = """
from flask import Flask
from flask_sock import ConnectionClosed, Sock

app = Flask(__name__)
sock = Sock(app)
idle = []


@sock.route('/echo')
def echo(ws):
    try:
        while True:
            data = ws.receive(timeout=0.01)
            if data is None:
                idle.append(True)
            else:
                ws.send(data)
    except ConnectionClosed as closed:
        idle.append(closed.reason)
        raise
"""

CLOCK = """
import json
import threading

from flask import Flask
from flask_sock import ConnectionClosed, Sock

app = Flask(__name__)
sock = Sock(app)
stop = threading.Event()


def send_time(ws):
    while not stop.wait(0.01):
        try:
            ws.send(json.dumps({'type': 'clock'}))
        except ConnectionClosed:
            break


@sock.route('/echo')
def echo(ws):
    thread = threading.Thread(target=send_time, args=(ws,))
    thread.start()
    while True:
        data = ws.receive()
        if data == 'close':
            break
        ws.send(json.dumps({'type': 'log', 'text': data}))
"""

SUBPROTOCOLS = """
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
app.config['SOCK_SERVER_OPTIONS'] = {'subprotocols': ['chat.v2', 'chat.v1']}
sock = Sock(app)


@sock.route('/echo')
def echo(ws):
    ws.send(ws.subprotocol)
    ws.close(4001, 'that was all')
"""


@pytest.fixture(params=[behind_acceptor, on_pywsgi], ids=["acceptor", "pywsgi"])
def serve(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _our_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flask_sock, "Sock", Sock)


def run(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, "example", "exec"), names)
    assert isinstance(names["app"], Flask)
    assert isinstance(names["sock"], Sock)
    return names


@pytest.mark.parametrize("text", [ECHO, FACTORY, BLUEPRINT, POLLING], ids=["echo", "factory", "blueprint", "polling"])
def test_an_echo_in_every_way_of_writing_it(serve: Any, text: str) -> None:
    with serve(run(text)["app"]) as port:
        client = port.connect("/echo")
        for size in (0, 5, 90_000):
            client.send(frame(TEXT, b"x" * size) + frame(BINARY, b"\xff" * size))
            assert client.read() == (TEXT, b"x" * size)
            assert client.read() == (BINARY, b"\xff" * size)
        assert client.goodbye() == [(CLOSE, b"\x03\xe8")]


def test_a_page_beside_the_websocket_and_a_function_that_returns(serve: Any) -> None:
    with serve(run(ECHO)["app"]) as port:
        assert port.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"the page")
        client = port.connect("/echo")
        client.text("close")
        assert client.goodbye() == [(CLOSE, b"\x03\xe8")]


def test_a_route_that_polls_is_told_of_the_close(serve: Any) -> None:
    names = run(POLLING)
    with serve(names["app"]) as port:
        client = port.connect("/echo")
        until(lambda: len(names["idle"]) > 2)
        client.goodbye()
        until(lambda: names["idle"][-1] == 1000)


def test_a_clock_in_a_thread_beside_the_echo(serve: Any) -> None:
    names = run(CLOCK)
    before = threading.active_count()
    with serve(names["app"]) as port:
        client = port.connect("/echo")
        client.text("hello")
        seen = {client.read()[1] for _ in range(10)}
        assert seen == {b'{"type": "clock"}', b'{"type": "log", "text": "hello"}'}
        client.text("close")
        client.goodbye()
        names["stop"].set()
        until(lambda: threading.active_count() == before)


def test_subprotocols_and_a_close_of_the_applications_own(serve: Any) -> None:
    with serve(run(SUBPROTOCOLS)["app"]) as port:
        client, head = handshake(port.raw(), "/echo", "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n")
        assert "Sec-WebSocket-Protocol: chat.v1" in head
        assert client.read() == (TEXT, b"chat.v1")
        assert client.goodbye() == [(CLOSE, b"\x0f\xa1that was all")]
