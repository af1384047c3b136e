"""The port: who answers what, limits, slow and broken clients, and pywsgi beside it."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent import socket as gsocket

from ringway.ws_server import endpoint as endpoint_module
from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Accept, Handshake, Refuse
from ringway.ws_server.tls import TlsFiles
from tests.ws_server.both import POLLERS, MakePoller
from tests.ws_server.frames import CLOSE, TEXT, frame
from tests.ws_server.serving import HEAD, Client, Echo, Port, handshake, serving, until
from tests.ws_server.test_tls import certificate
from tests.ws_server.test_tls import secure as wrapped

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GOOD = HEAD.format(path="/ws", extra="").encode()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else b""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['wsgi.url_scheme']} ".encode() + body]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return certificate(tmp_path_factory.mktemp("tls"), "node-one")


@pytest.fixture
def port() -> Iterator[Port]:
    with serving(app=app) as port:
        yield port


def http(method: str, path: str, extra: str = "", body: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n{body}".encode()


def test_the_endpoint_and_the_wsgi_application_share_the_port(port: Port) -> None:
    client = port.connect("/ws?ticket=abc")
    client.text("hello")
    assert client.read() == (TEXT, b"hello")
    assert port.handler.requests[0].query == {"ticket": "abc"}
    assert port.ask(http("GET", "/livez")).endswith(b"GET /livez http ")
    assert port.ask(http("POST", "/x", "Content-Length: 4\r\n", "body")).endswith(b"POST /x http body")
    client.goodbye()


@pytest.mark.parametrize("path", ["/wsx", "/ws/", "/w", "/", "/WS"])
def test_other_paths_are_pywsgis(port: Port, path: str) -> None:
    assert port.ask(http("GET", path)).endswith(f"GET {path} http ".encode())


def test_a_plain_request_for_the_endpoint_is_426(port: Port) -> None:
    assert port.ask(http("GET", "/ws")).startswith(b"HTTP/1.1 426 ")
    assert port.counters.refused == {"no upgrade": 1}


def test_pywsgi_gets_a_request_that_comes_byte_by_byte(port: Port) -> None:
    sock = port.raw()
    for byte in http("GET", "/livez"):
        sock.sendall(bytes((byte,)))
        gevent.sleep(0.001)
    assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    sock.close()


def test_a_handshake_may_come_byte_by_byte_without_spinning(port: Port) -> None:
    sock = port.raw()
    sock.sendall(GOOD[:3])
    gevent.sleep(0.05)
    used = time.process_time()
    gevent.sleep(0.3)
    assert time.process_time() - used < 0.1, "three bytes that decide nothing must not keep the loop busy"
    for byte in GOOD[3:-1]:
        sock.sendall(bytes((byte,)))
        gevent.sleep(0.0005)
    sock.sendall(GOOD[-1:] + frame(TEXT, b"at last"))
    client = Client(sock)
    answer = sock.recv(65536)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    client._buffer += rest
    assert client.read() == (TEXT, b"at last")
    client.goodbye()


def test_without_an_application_other_paths_are_404() -> None:
    with serving() as port:
        assert port.ask(http("GET", "/")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("status", [401, 403, 503])
def test_the_applications_refusal_is_answered(status: int) -> None:
    with serving(Echo(Refuse(status, "not you", "policy", {"Retry-After": "7"}))) as port:
        answer = port.ask(GOOD)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Retry-After: 7\r\n" in answer
        assert answer.endswith(b"not you\n")
        assert port.counters.refused == {"policy": 1}
        assert port.counters.opened == 0


def test_an_exception_in_on_request_is_500(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Echo):
        def on_request(self, request: Handshake) -> Accept | Refuse:
            raise RuntimeError("broken application")

    with serving(Failing()) as port:
        assert port.ask(GOOD).startswith(b"HTTP/1.1 500 ")
        assert "broken application" in caplog.text


def test_the_subprotocol_is_echoed() -> None:
    with serving(Echo(Accept("ringway.v1"))) as port:
        _, head = handshake(port.raw(), extra="Sec-WebSocket-Protocol: ringway.v1\r\n")
        assert "Sec-WebSocket-Protocol: ringway.v1" in head


def test_a_foreign_origin_is_403() -> None:
    with serving(limits=Limits(origins=frozenset({"https://a"}))) as port:
        assert port.ask(HEAD.format(path="/ws", extra="Origin: https://b\r\n").encode()).startswith(b"HTTP/1.1 403 ")
        port.connect(extra="Origin: https://a\r\n").goodbye()


@pytest.mark.parametrize(
    "sent", [b"", b"GE", b"GET /ws HT", GOOD[:-2], b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "method", "line", "headers", "plain line", "plain headers"],
)  # fmt: skip
def test_a_slow_loris_is_closed_at_the_deadline(sent: bytes) -> None:
    with serving(app=app, limits=Limits(handshake_s=0.3)) as port:
        sock = port.raw()
        sock.sendall(sent)
        until(lambda: port.counters.handshakes == 1)
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert port.counters.refused == {"timeout": 1}
        assert port.counters.handshakes == 0
        sock.close()


def test_clients_that_stall_in_a_plain_requests_head_take_no_others_place() -> None:
    with serving(app=app, limits=Limits(wsgi_requests=1)) as port:
        stalled = [port.raw() for _ in range(5)]
        for sock in stalled:
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost")
        until(lambda: port.counters.handshakes == 5)
        assert port.ask(http("GET", "/livez")).endswith(b"GET /livez http ")
        for sock in stalled:
            sock.close()
        until(lambda: port.counters.handshakes == 0)


def test_a_plain_request_may_end_its_lines_with_bare_line_feeds(port: Port) -> None:
    assert port.ask(b"GET /livez HTTP/1.0\n\n").endswith(b"GET /livez http ")


@pytest.mark.parametrize("path", ["/ws", "/livez"])
def test_headers_over_the_limit_are_431(path: str) -> None:
    with serving(limits=Limits(header_bytes=1000)) as port:
        request = HEAD.format(path=path, extra=f"Cookie: {'x' * 2000}\r\n").encode()
        assert port.ask(request).startswith(b"HTTP/1.1 431 ")
        assert port.ask(request[:1500]).startswith(b"HTTP/1.1 431 ")
        assert port.counters.refused == {"header limit": 2}


def test_a_refused_client_that_never_leaves_is_dropped() -> None:
    with serving(Echo(Refuse(401, "no"))) as port:
        sock = port.raw()
        sock.sendall(GOOD)
        until(lambda: port.counters.handshakes == 1)
        until(lambda: port.counters.handshakes == 0, 5.0)
        sock.close()


def test_over_the_connection_limit_a_client_is_upgraded_and_closed_4100() -> None:
    with serving(limits=Limits(connections=2)) as port:
        stay = [port.connect() for _ in range(2)]
        assert port.connect().read_all() == [(CLOSE, b"\x10\x04")]
        assert port.counters.refused == {"node full": 1}
        assert len(port.handler.opened) == port.counters.opened == 2
        assert port.counters.closed == {}, "what was never open is not closed"
        stay[0].goodbye()
        until(lambda: port.counters.open == 1)
        port.connect().goodbye()
        stay[1].goodbye()


def test_over_the_handshake_limit_a_client_gets_503_at_once() -> None:
    with serving(limits=Limits(handshakes=3)) as port:
        slow = [port.raw() for _ in range(3)]
        until(lambda: port.counters.handshakes == 3)
        sock = port.raw()
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")
        sock.close()
        assert port.counters.refused == {"handshake limit": 1}
        for each in slow:
            each.close()
        until(lambda: port.counters.handshakes == 0)
        port.connect().goodbye()


def test_over_the_request_limit_pywsgis_clients_get_503() -> None:
    gate = gevent.event.Event()

    def waiting(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        gate.wait()
        start_response("200 OK", [])
        return [b"done"]

    with serving(app=waiting, limits=Limits(wsgi_requests=2)) as port:
        held = [gevent.spawn(port.ask, http("GET", "/")) for _ in range(2)]
        until(lambda: port.acceptor._wsgi is not None and port.acceptor._wsgi.full)
        assert port.ask(http("GET", "/")).startswith(b"HTTP/1.1 503 ")
        client = port.connect()
        gate.set()
        assert all(each.get(timeout=5).endswith(b"done") for each in held)
        client.goodbye()


def drip(sock: Any, piece: bytes = b"x") -> float:
    """Send a piece every now and then until the server has closed; how many seconds that took."""
    started = time.monotonic()
    while (took := time.monotonic() - started) < 5.0:
        try:
            sock.sendall(piece)
        except OSError:
            break
        gevent.sleep(0.05)
    return took


SECURE = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])


@SECURE
@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nX-Drip: "], ids=["nothing", "a head"])
def test_the_next_request_of_a_connection_has_a_deadline_as_a_whole(
    secure: bool, begun: bytes, files: TlsFiles
) -> None:
    tls = files if secure else None
    with serving(app=app, limits=Limits(keep_alive_s=0.4), tls=tls) as port:
        sock = wrapped(port, files) if secure else port.raw()
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"GET /livez" not in answer:
            answer += sock.recv(65536)
        if begun:
            sock.sendall(begun)
            assert drip(sock) < 2.0
        else:
            assert sock.recv(1) == b""
        sock.close()


@SECURE
@pytest.mark.parametrize("path", ["/read", "/ignored"])
def test_a_requests_body_has_a_deadline_as_a_whole(
    secure: bool, path: str, files: TlsFiles, capfd: pytest.CaptureFixture[str]
) -> None:
    tls = files if secure else None
    with serving(app=reading, limits=Limits(wsgi_s=0.4), tls=tls) as port:
        sock = wrapped(port, files) if secure else port.raw()
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode())
        assert drip(sock) < 2.0
        sock.close()
    assert capfd.readouterr().err == "", "a slow client is no error of the application's"


def reading(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    if environ["PATH_INFO"] == "/read":
        environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"done"]


@SECURE
def test_a_body_that_was_there_in_time_may_be_read_late(secure: bool, files: TlsFiles) -> None:
    def late(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        gevent.sleep(0.3)
        return app(environ, start_response)

    tls = files if secure else None
    with serving(app=late, limits=Limits(wsgi_s=0.1), tls=tls) as port:
        sock = wrapped(port, files) if secure else port.raw()
        body = 20_000 * "x"
        sock.sendall(http("POST", "/x", f"Content-Length: {len(body)}\r\n", body))
        answer = b""
        while data := sock.recv(65536):
            answer += data
        assert answer.endswith(body.encode())
        sock.close()


def test_whether_the_node_lives_is_told_when_there_is_no_room_for_another_request() -> None:
    with serving(app=app, limits=Limits(wsgi_requests=1), alive=lambda: b'{"ok":true}') as port:
        kept = port.raw()
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        kept.recv(65536)
        head, _, body = port.ask(http("GET", "/livez")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Type: application/json" in head
        assert body == b'{"ok":true}'
        for other in (http("GET", "/livezz"), http("POST", "/livez"), http("GET", "/")):
            assert port.ask(other).startswith(b"HTTP/1.1 503 ")
        kept.close()
        until(lambda: port.ask(http("GET", "/livez")).endswith(b"GET /livez http "))


def fill(taken: list[int]) -> None:
    """Open descriptors until there is none left."""
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """Leave this process `spare` descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(name) for name in os.listdir("/proc/self/fd")) + 50, hard))
    taken: list[int] = []
    try:
        fill(taken)
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_running_out_of_descriptors_is_survived_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as port:
        client = port.connect()
        crowd = [gsocket.socket() for _ in range(6)]
        with few_descriptors(2):
            for sock in crowd:
                sock.connect(port.address)
            until(lambda: port.counters.accept_errors["EMFILE"] > 1)
            client.text("still served")
            assert client.read() == (TEXT, b"still served")
            assert port.counters.handshakes == 2
        assert caplog.text.count("Too many open files") == 1, "logged once in a while, not for each"
        newcomer = port.connect()
        for sock in crowd:
            sock.close()
        until(lambda: port.counters.handshakes == 0)
        newcomer.goodbye()
        client.goodbye()


def test_a_reserve_that_cannot_be_had_again_does_not_end_accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with serving() as port:
        listening = port.acceptor._listening
        with monkeypatch.context() as patch:
            patch.setattr(listening, "_accept", none_left)
            patch.setattr(os, "open", none_left)
            waiting = port.raw()
            until(lambda: port.counters.accept_errors["EMFILE"] > 1)
            assert listening._reserve == -1, "its number is somebody else's by now"
        client, _ = handshake(waiting)
        assert listening._reserve >= 0
        client.goodbye()


@pytest.mark.parametrize("poller", POLLERS)
def test_a_socket_that_cannot_be_watched_is_closed_counted_and_logged_and_accepting_goes_on(
    poller: MakePoller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoint_module, "make_poller", poller)

    def no_room(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving(app=app) as port:
        with monkeypatch.context() as patch:
            patch.setattr(port.acceptor.endpoint.poller, "watch", no_room)
            silent, begun = port.raw(), port.raw()
            begun.sendall(GOOD[:20])
            assert [silent.recv(100), begun.recv(100)] == [b"", b""]
        assert port.counters.accept_errors == {"ENOSPC": 2}
        assert caplog.text.count("No space left") == 1
        assert port.counters.handshakes == 0
        port.connect().goodbye()
        for sock in (silent, begun):
            sock.close()


@pytest.mark.parametrize("poller", POLLERS)
def test_a_connection_that_cannot_be_made_leaves_no_trace_at_its_descriptor(
    poller: MakePoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "make_poller", poller)

    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    with serving() as port:
        for name in ("__init__", "open"):
            sock = port.raw()
            sock.sendall(GOOD[:20])
            until(lambda: port.counters.handshakes == 1)
            with monkeypatch.context() as patch:
                patch.setattr(Connection, name, broken)
                sock.sendall(GOOD[20:])
                assert sock.recv(100) == b""
            assert (len(port.acceptor.endpoint.poller), port.counters.open, port.counters.handshakes) == (0, 0, 0)
            sock.close()
            port.connect().goodbye()  # at the same descriptor
            until(lambda: port.counters.open == 0)


def test_accepted_sockets_have_no_delay(port: Port) -> None:
    client = port.connect()
    sock = port.handler.opened[0]._sock
    assert sock.getsockopt(IPPROTO_TCP, TCP_NODELAY) == 1
    client.goodbye()


def test_an_upgrade_on_a_connection_that_served_a_plain_request_first(port: Port) -> None:
    sock = port.raw()
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"GET /livez http "):
        answer += sock.recv(65536)
    client, _ = handshake(sock, "/ws?ticket=late", early=frame(TEXT, b"early"))
    assert client.read() == (TEXT, b"early")
    assert port.handler.requests[-1].query == {"ticket": "late"}
    client.goodbye()
    until(lambda: port.handler.closed == [(1000, "", "client")])


def test_such_an_upgrade_can_be_refused() -> None:
    with serving(Echo(Refuse(401, "no ticket")), app=app) as port:
        sock = port.raw()
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        gevent.sleep(0.05)
        sock.recv(65536)
        sock.sendall(GOOD)
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")
        sock.close()


def test_close_says_goodbye_to_everybody_and_refuses_newcomers() -> None:
    with serving() as port:
        clients = [port.connect() for _ in range(3)]
        stopping = gevent.spawn(port.acceptor.close, 5.0, 4301, "", "drain")
        assert [client.goodbye() for client in clients] == [[(CLOSE, b"\x10\xcd")]] * 3
        stopping.get(timeout=2.0)
        assert port.counters.closed == {("4301", "drain"): 3}
        with pytest.raises(ConnectionRefusedError):
            port.raw()


def test_close_drops_those_who_do_not_answer() -> None:
    with serving() as port:
        client = port.connect()
        started = time.monotonic()
        port.acceptor.close(0.3)
        assert time.monotonic() - started < 2.0
        assert client.read_all() == [(CLOSE, b"\x03\xe9")]
        client.sock.close()


def test_compression_is_off_unless_configured(port: Port) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    client, head = handshake(port.raw(), extra=offer)
    assert "xtensions" not in head
    client.goodbye()
