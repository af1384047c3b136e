"""TLS on the node's port, with OpenSSL clients on the other side."""

from __future__ import annotations

import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import gevent.ssl
import pytest
from flask import Flask

from ringway.ws_server.acceptor import Acceptor
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.sock import Sock
from ringway.ws_server.tls import TlsFiles
from tests.ws_server.frames import BINARY, CLOSE, TEXT, close_frame, frame
from tests.ws_server.serving import HEAD, Client, Echo, Port, handshake, serving, until
from tests.ws_server.test_connection import Flood
from tests.ws_server.test_heartbeat import PATIENT, Pushing, read_slowly
from tests.ws_server.test_sock import echo

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def certificate(folder: Path, name: str) -> TlsFiles:
    files = TlsFiles(folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", files.key, "-out", files.cert], check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return certificate(tmp_path_factory.mktemp("tls"), "node-one")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.url_scheme']} {environ['PATH_INFO']} {len(body)}".encode()]


def trust(files: TlsFiles) -> Any:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.cert)
    return context


def secure(port: Port, files: TlsFiles, name: str = "node-one", **options: Any) -> Any:
    return trust(files).wrap_socket(port.raw(**options), server_hostname=name)


@pytest.fixture
def port(files: TlsFiles) -> Iterator[Port]:
    with serving(app=app, tls=files) as port:
        yield port


def test_messages_of_all_sizes_come_back(port: Port, files: TlsFiles) -> None:
    client, _ = handshake(secure(port, files))
    for size in (0, 1, 125, 16384, 65535, 65536):
        client.send(frame(TEXT, b"x" * size) + frame(BINARY, b"\xff" * size))
        assert client.read() == (TEXT, b"x" * size)
        assert client.read() == (BINARY, b"\xff" * size)
    client.send(close_frame(1000))
    assert client.read() == (CLOSE, b"\x03\xe8")
    client.sock.close()
    until(lambda: port.handler.closed == [(1000, "", "client")])


def test_early_data_and_many_messages_in_one_record(port: Port, files: TlsFiles) -> None:
    messages = b"".join(frame(TEXT, b"%d" % number) for number in range(100))
    client, _ = handshake(secure(port, files), early=messages)
    assert [client.read() for _ in range(100)] == [(TEXT, b"%d" % number) for number in range(100)]
    client.sock.close()


def test_http_on_the_same_port_keep_alive_and_with_a_body(port: Port, files: TlsFiles) -> None:
    sock = secure(port, files)
    for size in (0, 5, 100_000):
        head = f"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode() + b"x" * size)
        answer = b""
        while not answer.endswith(f"https /livez {size}".encode()):
            data = sock.recv(65536)
            assert data, answer
            answer += data
    sock.close()


def test_an_upgrade_after_a_plain_request_on_the_same_connection(port: Port, files: TlsFiles) -> None:
    sock = secure(port, files)
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"https /livez 0"):
        answer += sock.recv(65536)
    client, _ = handshake(sock, "/ws?ticket=late", early=frame(TEXT, b"early"))
    assert client.read() == (TEXT, b"early")
    sock.close()


def test_a_flask_sock_route_over_tls(files: TlsFiles) -> None:
    flask = Flask(__name__)
    Sock(flask).route("/echo")(echo)
    with serving(app=flask, tls=files) as port:
        client, _ = handshake(secure(port, files), "/echo", early=frame(TEXT, b"hello"))
        assert client.read() == (TEXT, b"hello")
        client.text("close")
        assert client.read() == (CLOSE, b"\x03\xe8")
        client.send(close_frame(1000))
        client.sock.close()
        until(lambda: port.counters.open == 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(port: Port, files: TlsFiles, version: ssl.TLSVersion) -> None:
    context = trust(files)
    context.minimum_version = context.maximum_version = version
    sock = context.wrap_socket(port.raw(), server_hostname="node-one")
    client, _ = handshake(sock)
    client.text("hello")
    assert client.read() == (TEXT, b"hello")
    sock.close()


def test_a_slow_reader_over_tls_gets_everything_in_order(files: TlsFiles) -> None:
    with serving(Flood(), Limits(queue_bytes=None), tls=files) as port:
        client, _ = handshake(secure(port, files, receive_bytes=16384))
        until(lambda: port.handler.opened[0].buffered > 1 << 20)
        assert [client.read()[1][:5] for _ in range(5000)] == [b"%05d" % at for at in range(5000)]
        client.sock.close()


def test_a_client_that_reads_slowly_stays_though_its_ping_waits_behind_much(files: TlsFiles) -> None:
    with serving(Pushing(), PATIENT, tls=files) as port:
        client, _ = handshake(secure(port, files, receive_bytes=16384))
        assert read_slowly(client) > PATIENT.pong_s * 3
        assert port.handler.closed == []
        client.sock.close()


def test_a_reader_that_sleeps_is_closed_4101_and_never_gets_a_torn_frame(files: TlsFiles) -> None:
    with serving(Flood(), Limits(queue_bytes=1 << 20, close_s=1.0), tls=files) as port:
        client, _ = handshake(secure(port, files, receive_bytes=16384))
        until(lambda: port.handler.closed == [(4101, "", "slow consumer")])
        number = 0
        while (read := client.read())[0] == TEXT:
            assert read[1][:5] == b"%05d" % number
            number += 1
        assert read == (CLOSE, b"\x10\x05")
        client.sock.close()
        until(lambda: port.counters.open == 0)
        assert port.counters.queue_bytes == 0


def test_a_client_that_does_not_speak_tls_is_dropped(port: Port) -> None:
    assert b"HTTP/1.1" not in port.ask(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: sum(port.counters.refused.values()) == 1)


def test_a_handshake_that_stops_is_closed_at_the_deadline(files: TlsFiles) -> None:
    with serving(tls=files, limits=Limits(handshake_s=0.3)) as port:
        sock = port.raw()
        sock.sendall(b"\x16\x03\x01")
        until(lambda: port.counters.handshakes == 1)
        until(lambda: port.counters.refused["timeout"] == 1)
        until(lambda: port.counters.handshakes == 0)
        sock.close()


def test_over_the_limit_of_handshakes_a_client_gets_an_alert_not_a_bare_close(files: TlsFiles) -> None:
    with serving(tls=files, limits=Limits(handshakes=1)) as port:
        first = port.raw()
        until(lambda: port.counters.handshakes == 1)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.internal.error"):
            secure(port, files)
        assert port.counters.refused["handshake limit"] == 1
        first.close()
        until(lambda: port.counters.handshakes == 0)
        handshake(secure(port, files))[0].goodbye()


def test_no_greenlet_runs_for_an_idle_connection(port: Port, files: TlsFiles) -> None:
    import gc

    def greenlets() -> int:
        gc.collect()
        return sum(isinstance(each, gevent.Greenlet) and not each.dead for each in gc.get_objects())

    before = greenlets()
    clients = [handshake(secure(port, files))[0] for _ in range(5)]
    assert greenlets() == before
    for client in clients:
        client.sock.close()


def test_reload_serves_the_new_certificate_to_new_connections(tmp_path: Path) -> None:
    files = certificate(tmp_path, "node-one")
    with serving(tls=files) as port:
        old, _ = handshake(secure(port, files))
        certificate(tmp_path, "node-two")
        port.acceptor.reload_tls()
        new, _ = handshake(secure(port, files, "node-two"))
        for client in (old, new):
            client.text("both work")
            assert client.read() == (TEXT, b"both work")
            client.sock.close()


def test_a_bad_certificate_on_reload_raises_and_changes_nothing(tmp_path: Path) -> None:
    files = certificate(tmp_path, "node-one")
    good = files.cert.read_bytes()
    with serving(tls=files) as port:
        files.cert.write_bytes(b"not a certificate")
        with pytest.raises(ssl.SSLError):
            port.acceptor.reload_tls()
        files.cert.write_bytes(good)
        client, _ = handshake(secure(port, files))
        client.sock.close()


def test_reload_without_tls_does_nothing() -> None:
    with serving() as port:
        assert isinstance(port.acceptor, Acceptor)
        port.acceptor.reload_tls()


def test_a_reset_in_the_middle_gives_everything_back(port: Port, files: TlsFiles) -> None:
    raw = port.raw()
    raw.sendall(b"\x16\x03\x01\x02\x00\x01")
    until(lambda: port.counters.handshakes == 1)
    Client(raw).reset()
    until(lambda: port.counters.handshakes == 0)
    client, _ = handshake(secure(port, files))
    until(lambda: port.counters.open == 1)
    client.reset()
    until(lambda: port.counters.open == 0)
    assert len(port.acceptor.endpoint.poller) == 0
    assert isinstance(port.handler, Echo)


class Memory:
    """A TLS client over memory: what leaves together, and what comes back, is the test's to say."""

    def __init__(self, port: Port, files: TlsFiles, name: str = "node-one") -> None:
        self.raw = port.raw()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(files.cert))
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    def push(self) -> None:
        self.raw.sendall(self._out.read())

    def pull(self) -> None:
        data = self.raw.recv(65536)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.push()
                self.pull()
            finally:
                self.push()

    def upgrade(self) -> None:
        self.do(self.tls.do_handshake)
        self.tls.write(HEAD.format(path="/ws", extra="").encode())
        assert self.do(lambda: self.tls.read(65536)).startswith(b"HTTP/1.1 101 ")

    def say_goodbye(self) -> None:
        """Write a close_notify, without waiting for the answer."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


@pytest.mark.parametrize("last", [b"", frame(TEXT, b"last")], ids=["alone", "after data"])
def test_a_close_notify_is_the_end_of_the_stream_though_the_client_keeps_its_socket(
    port: Port, files: TlsFiles, last: bytes
) -> None:
    client = Memory(port, files)
    client.upgrade()
    if last:
        client.tls.write(last)
    client.say_goodbye()
    client.push()
    until(lambda: port.handler.closed == [(1006, "", "eof")])
    assert port.handler.received == [b"last"][: len(last)]
    client.raw.close()


def test_a_request_to_pywsgi_and_a_close_notify_in_one_segment_are_both_seen(port: Port, files: TlsFiles) -> None:
    client = Memory(port, files)
    client.do(client.tls.do_handshake)
    client.tls.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    client.say_goodbye()
    client.push()
    while client.raw.recv(65536):
        pass
    client.raw.close()


def test_a_connection_ends_with_a_close_notify(port: Port, files: TlsFiles) -> None:
    client = Memory(port, files)
    client.upgrade()
    client.tls.write(close_frame(1000))
    client.push()
    assert client.do(lambda: client.tls.read(65536)) == b"\x88\x02\x03\xe8"
    assert client.do(lambda: client.tls.read(65536)) == b"", "without it OpenSSL raises SSLEOFError"
    client.raw.close()


def test_a_refused_client_that_goes_on_sending_gets_its_answer_and_a_goodbye(port: Port, files: TlsFiles) -> None:
    client = Memory(port, files)
    client.do(client.tls.do_handshake)
    client.tls.write(HEAD.format(path="/ws", extra=f"Cookie: {'x' * 9000}\r\n").encode())
    client.push()
    until(lambda: port.counters.refused == {"header limit": 1})
    for _ in range(3):
        client.tls.write(b"x" * 10_000)
        client.push()
    assert client.do(lambda: client.tls.read(65536)).startswith(b"HTTP/1.1 431 ")
    assert client.do(lambda: client.tls.read(65536)) == b""
    client.raw.close()
    until(lambda: port.counters.handshakes == 0)


def test_a_client_that_shares_no_version_gets_an_alert(port: Port, files: TlsFiles) -> None:
    context = trust(files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        context.wrap_socket(port.raw(), server_hostname="node-one")
    until(lambda: port.counters.refused == {"SSLError": 1})


def test_a_client_that_breaks_tls_later_gets_an_alert(port: Port, files: TlsFiles) -> None:
    client = Memory(port, files)
    client.upgrade()
    client.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.bad.record.mac"):
        client.do(lambda: client.tls.read(65536))
    client.raw.close()
    until(lambda: port.counters.open == 0)
