"""The port in a process that gevent patched first of all, as a node's is. Run by test_patched.py."""

from gevent import monkey

monkey.patch_all()

import threading  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

from flask import Flask  # noqa: E402

from ringway.ws_server.poller import EpollPoller  # noqa: E402
from ringway.ws_server.sock import Sock, WebSocket  # noqa: E402
from tests.ws_server.frames import BINARY, CLOSE, TEXT, frame  # noqa: E402
from tests.ws_server.serving import handshake, serving  # noqa: E402
from tests.ws_server.test_tls import certificate, secure  # noqa: E402


def the_endpoint() -> None:
    with serving() as port:
        client = port.connect()
        client.send(frame(BINARY, b"x" * 60_000))
        assert client.read() == (BINARY, b"x" * 60_000)
        assert client.goodbye() == [(CLOSE, b"\x03\xe8")]
        assert isinstance(port.acceptor.endpoint.poller, EpollPoller)


def tls() -> None:
    with TemporaryDirectory() as folder:
        files = certificate(Path(folder), "node-one")
        with serving(tls=files) as port:
            client, _ = handshake(secure(port, files), early=frame(TEXT, b"early"))
            assert client.read() == (TEXT, b"early")
            client.sock.close()


def a_flask_sock_route_that_sends_from_a_thread() -> None:
    app = Flask(__name__)

    @Sock(app).route("/x")
    def route(ws: WebSocket) -> None:
        sender = threading.Thread(target=ws.send, args=("from a thread",))
        sender.start()
        sender.join()
        ws.send(ws.receive() or "")

    with serving(app=app) as port:
        client = port.connect("/x")
        assert client.read() == (TEXT, b"from a thread")
        client.text("hello")
        assert client.read() == (TEXT, b"hello")
        client.goodbye()


if __name__ == "__main__":
    for case in (the_endpoint, tls, a_flask_sock_route_that_sends_from_a_thread):
        case()
    print("all right")
