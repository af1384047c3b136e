"""One thread reads a TLS connection while another writes, against servers that speak TLS 1.2 and 1.3."""

from __future__ import annotations

import asyncio
import hashlib
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ringway.client_sdk import tls
from tests.harness.ports import pick_port
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_java import Certificates

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
TURNS = 1500
ROUNDS, BLOCK = 4, 4_000_000


@pytest.fixture(scope="module")
def echo(certificates: Certificates) -> Iterator[int]:
    """The port of a server, in a thread of its own, that sends back what it gets."""
    ports: list[int] = []
    ready, over = threading.Event(), threading.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving(certificates))
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.to_thread(over.wait)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="echo")
    thread.start()
    assert ready.wait(10)
    yield ports[0]
    over.set()
    thread.join()


def serving(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    return context


def trusting(certificates: Certificates, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def connect(context: ssl.SSLContext, port: int, timeout_s: float = 10.0) -> ssl.SSLSocket:
    """As `websockets` does it."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
    try:
        wrapped = tls.threaded(context).wrap_socket(sock, server_hostname="127.0.0.1")
    except OSError:
        sock.close()
        raise
    wrapped.settimeout(None)
    return wrapped


def read(sock: ssl.SSLSocket, size: int) -> bytes:
    """Exactly so many bytes."""
    got = b""
    while len(got) < size:
        data = sock.recv(65536)
        assert data, f"it ended after {len(got)} of {size} bytes"
        got += data
    return got


def test_a_first_write_is_not_lost_to_a_read_of_the_session_tickets(certificates: Certificates, echo: int) -> None:
    """An SSLSocket fails some 1 in 400 of these: the read waits for an answer to what never left."""
    context = trusting(certificates)

    def turn(number: int) -> bool:
        sock, said = connect(context, echo), b"hello %d" % number
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.append(read(sock, len(said))), daemon=True)
        reader.start()
        sock.sendall(said)
        reader.join(10)
        sock.close()
        return heard == [said]

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(turn, range(TURNS))) == TURNS


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_megabytes_go_both_ways_at_once(certificates: Certificates, echo: int, version: ssl.TLSVersion) -> None:
    sock = connect(trusting(certificates, version), echo)
    blocks = [hashlib.shake_128(bytes([number])).digest(BLOCK) for number in range(ROUNDS)]
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(read, sock, ROUNDS * BLOCK)
        for block in blocks:
            sock.sendall(block)
        assert heard.result(60) == b"".join(blocks)
    sock.close()


def test_nothing_stays_behind_for_which_no_event_would_come(certificates: Certificates, echo: int) -> None:
    sock = connect(trusting(certificates), echo)
    said = hashlib.shake_128(b"x").digest(300_000)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(sock.sendall, said)
        got = b""
        while len(got) < len(said):
            assert select.select([sock], [], [], 10)[0], f"silent after {len(got)} bytes"
            got += sock.recv(4096)
        sent.result(10)
    assert got == said
    sock.close()


def test_a_close_wakes_a_reader(certificates: Certificates, echo: int) -> None:
    sock = connect(trusting(certificates), echo)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(sock.recv, 65536)
        wait_until(lambda: end.running(), 10)
        sock.close()
        closed_first = isinstance(end.exception(10), OSError)
        assert closed_first or end.result() == b""


class Peer:
    """A server's side, by hand."""

    def __init__(self, certificates: Certificates) -> None:
        self._context = serving(certificates)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def meet(self, context: ssl.SSLContext, act: Callable[[ssl.SSLSocket], object]) -> ssl.SSLSocket:
        """A client's end, when the server's side has shaken hands and acted."""

        def accept() -> None:
            sock, _ = self._listener.accept()
            with self._context.wrap_socket(sock, server_side=True) as wrapped:
                act(wrapped)

        with ThreadPoolExecutor(1) as pool:
            acted = pool.submit(accept)
            client = connect(context, self.port)
            acted.result(10)
        return client

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def peer(certificates: Certificates) -> Iterator[Peer]:
    made = Peer(certificates)
    yield made
    made.close()


def test_last_words_and_goodbye_in_one_piece(certificates: Certificates, peer: Peer) -> None:
    """The words, then the end, each with an event, although the peer's socket stays open."""
    kept: list[socket.socket] = []

    def act(sock: ssl.SSLSocket) -> None:
        kept.append(socket.socket(fileno=socket.dup(sock.fileno())))
        sock.setblocking(False)
        sock.sendall(b"last words")
        with pytest.raises(ssl.SSLWantReadError):
            sock.unwrap()

    client = peer.meet(trusting(certificates), act)
    assert select.select([client], [], [], 10)[0]
    assert client.recv(65536) == b"last words"
    assert select.select([client], [], [], 10)[0]
    assert client.recv(65536) == b""
    assert client.recv(65536) == b""
    client.close()
    kept[0].close()


def test_who_goes_without_a_goodbye_is_an_end_too(certificates: Certificates, peer: Peer) -> None:
    client = peer.meet(trusting(certificates), lambda sock: sock.sendall(b"last words"))
    assert read(client, 10) == b"last words"
    assert client.recv(65536) == b""
    assert client.recv(65536) == b""
    client.close()


def test_a_stranger_is_told_why_he_is_not_trusted(certificates: Certificates, echo: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(ssl.create_default_context(), echo)


def test_a_handshake_has_one_time_out_as_a_whole() -> None:
    """Also with a peer that says something again and again: a record's length, then a byte of it at a time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"\x16\x03\x03\x10\x00")
                while not over.wait(0.05):
                    sock.sendall(b"\x02")

        thread = threading.Thread(target=drip)
        thread.start()
        since = time.monotonic()
        with pytest.raises(TimeoutError):
            connect(ssl.create_default_context(), listener.getsockname()[1], timeout_s=0.5)
        assert time.monotonic() - since < 5.0
        over.set()
        thread.join()


def test_a_peer_that_is_gone_in_the_handshake_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        gone = pool.submit(lambda: listener.accept()[0].close())
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):
            connect(ssl.create_default_context(), listener.getsockname()[1])
        gone.result(10)


def test_a_new_key_is_answered_with_the_next_write(certificates: Certificates) -> None:
    """OpenSSL's own server can ask for one, and would not understand what comes after it otherwise."""
    port = pick_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-naccept", "1", "-msg"]
    command += ["-cert", str(certificates.cert), "-key", str(certificates.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        said, heard = server.stdin, server.stdout
        assert said is not None
        assert heard is not None

        def until(start: bytes, words: bytes) -> None:
            assert any(line.startswith(start) and words in line for line in heard), f"it never said {words!r}"

        def say(line: bytes) -> None:
            said.write(line)
            said.flush()

        try:
            until(b"ACCEPT", b"")
            client = connect(trusting(certificates), port)
            with ThreadPoolExecutor(1) as pool:
                hello = pool.submit(read, client, len(b"hello\n"))
                say(b"K\n")
                until(b">>>", b"KeyUpdate")
                say(b"hello\n")
                assert hello.result(10) == b"hello\n"
            client.sendall(b"by the new key\n")
            until(b"<<<", b"KeyUpdate")
            until(b"by the new key", b"")
            client.close()
        finally:
            server.kill()
