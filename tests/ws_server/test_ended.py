"""What has ended is gone at once, by reference counts alone: with the garbage collector off nothing piles up.

A node calls the collector seldom, so that it does not cost a handshake its time; a cycle through a session would keep
thousands of ended ones in memory until then.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil
import pytest
from flask import Flask

from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Refuse
from ringway.ws_server.sock import Sock
from ringway.ws_server.tls import TlsFiles
from tests.harness import redises, zookeepers
from tests.ws_server.ended import alive
from tests.ws_server.frames import CLOSE
from tests.ws_server.nodes import Client as NodeClient
from tests.ws_server.nodes import Nodes
from tests.ws_server.serving import HEAD, Client, Port, handshake, serving, until
from tests.ws_server.test_rude_clients import KINDS as RUDE
from tests.ws_server.test_rude_clients import LIMITS, Forgetful
from tests.ws_server.test_tls import certificate, secure

CLIENTS = 8  # of each kind
EVERY = Limits(**{name: getattr(LIMITS, name) for name in LIMITS.__slots__} | {"deflate": True})


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def gone(before: Counter[str], count: Callable[[], Counter[str]]) -> None:
    """Wait until nothing is there once more for each client than before."""
    grown: list[dict[str, int]] = []

    def look() -> bool:
        grown.append({name: more for name, more in (count() - before).items() if more >= CLIENTS})
        return not grown[-1]

    try:
        until(look)
    except AssertionError:
        raise AssertionError(f"still there: {grown[-1]}") from None


# One port in this process.


def flask() -> Flask:
    app = Flask(__name__)
    app.add_url_rule("/livez", view_func=lambda: "ok", endpoint="livez")

    @Sock(app).route("/echo")
    def echo(ws: Any) -> None:
        while (said := ws.receive()) != "close":
            ws.send(said)

    return app


def polite(port: Port) -> Any:
    client = port.connect()
    client.text("hello")
    client.goodbye()


def compressed(port: Port) -> Any:
    port.connect(extra="Sec-WebSocket-Extensions: permessage-deflate\r\n").goodbye()


def no_upgrade(port: Port) -> Any:
    assert b" 426 " in port.ask(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")


def plain_request(port: Port) -> Any:
    assert b" 200 " in port.ask(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def upgrade_after_a_request(port: Port) -> Any:
    sock = port.raw()
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    sock.recv(65536)
    handshake(sock)[0].goodbye()


def sock_route(port: Port) -> Any:
    client = port.connect("/echo")
    client.text("close")
    assert client.read()[0] == CLOSE
    client.goodbye()


def sock_route_left_by_the_client(port: Port) -> Any:
    port.connect("/echo").reset()


KINDS: list[Callable[[Port], Any]] = [
    *RUDE, polite, compressed, no_upgrade, plain_request, upgrade_after_a_request, sock_route,
    sock_route_left_by_the_client,
]  # fmt: skip


def settled(port: Port) -> bool:
    counters = port.counters
    return not (counters.open or counters.handshakes or len(port.acceptor._wsgi._pool))  # type: ignore[union-attr]


def leave(port: Port, kind: Callable[[Port], Any], times: int) -> None:
    held = [kind(port) for _ in range(times)]
    until(lambda: settled(port))
    for sock in held:
        if sock is not None:
            sock.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_client_that_left_is_gone(kind: Callable[[Port], Any]) -> None:
    with serving(Forgetful(), EVERY, flask()) as port:
        leave(port, kind, 2)
        with no_collector():
            before = alive()
            leave(port, kind, CLIENTS)
            gone(before, alive)


def test_a_client_that_the_application_refused_is_gone() -> None:
    with serving(Forgetful(verdict=Refuse(403, "not you")), EVERY) as port, no_collector():
        before = alive()
        for _ in range(CLIENTS):
            assert b" 403 " in port.ask(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                        b"Sec-WebSocket-Version: 13\r\n\r\n")
        gone(before, alive)


# The same over TLS.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return certificate(tmp_path_factory.mktemp("tls"), "node-one")


def request_over_tls(port: Port, files: TlsFiles) -> None:
    sock = secure(port, files)
    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    while sock.recv(65536):
        pass
    sock.close()


def session_over_tls(port: Port, files: TlsFiles) -> None:
    handshake(secure(port, files))[0].goodbye()


def reset_over_tls(port: Port, files: TlsFiles) -> None:
    handshake(secure(port, files))[0].reset()


def route_over_tls(port: Port, files: TlsFiles) -> None:
    handshake(secure(port, files), "/echo")[0].goodbye()


def no_tls_at_all(port: Port, files: TlsFiles) -> None:
    port.ask(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    "kind", [request_over_tls, session_over_tls, reset_over_tls, route_over_tls, no_tls_at_all],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_a_client_that_left_over_tls_is_gone(kind: Callable[[Port, TlsFiles], None], files: TlsFiles) -> None:
    with serving(Forgetful(), EVERY, flask(), files) as port:
        kind(port, files)
        with no_collector():
            before = alive()
            for _ in range(CLIENTS):
                kind(port, files)
            until(lambda: settled(port))
            # The clients are in this process too; theirs are gone when `kind` returns.
            gone(before, alive)


# Sessions of a node.


@pytest.fixture(scope="module", params=["plain", "hooked"])
def node(
    request: pytest.FixtureRequest, zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> Iterator[Nodes]:
    env = {"RINGWAY_APP": f"tests.ws_server.ended:{request.param}", "RINGWAY_MOVE_DEADLINE": "0.2"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", "n2", env=env) as running:
        yield running


def ends(nodes: Nodes, uid: str) -> None:
    nodes.join(uid, "n1").close()


def resets(nodes: Nodes, uid: str) -> None:
    address = urlsplit(nodes.nodes["n1"].url)
    client = Client(create_connection((address.hostname, address.port), 5.0))
    client.send(HEAD.format(path=f"/ws?ticket={nodes.ticket(uid)}", extra="").encode())
    while b"welcome" not in client.sock.recv(65536):
        pass
    client.reset()


def talks(nodes: Nodes, uid: str) -> None:
    client = nodes.join(uid, "n1")
    client.send(t="join", group="ended")
    client.wait("joined")
    client.send(t="send", id=uid, to=[uid], body="hello")
    client.wait("ok")
    client.close()


def fails(nodes: Nodes, uid: str) -> None:
    client = nodes.join(uid, "n1")
    client.send(t="send", id=uid, to=[uid], body="fail")
    client.socket.send("fail")
    client.wait("error")
    client.close()


def is_refused(nodes: Nodes, uid: str) -> None:
    assert nodes.connect(uid, "n1", ticket="no-ticket").closed() == 4001


def is_banned(nodes: Nodes, uid: str) -> None:
    nodes.connect(nodes.uid_of("n1", f"banned-{uid}"), "n1").close()


def is_redirected(nodes: Nodes, uid: str) -> None:
    assert nodes.connect(nodes.uid_of("n2", uid), "n1").closed() == 4302


def has_a_newer_ticket(nodes: Nodes, uid: str) -> None:
    nodes.join(uid, "n1", epoch=nodes.epoch + 1).close()


def opens_a_raw_route(nodes: Nodes, uid: str) -> None:
    with NodeClient(nodes.nodes["n1"].url.removesuffix("/ws") + "/raw") as client:
        client.socket.send("hello")
        assert client.socket.recv(5.0) == "hello"


SESSIONS: list[Callable[[Nodes, str], None]] = [
    ends, resets, talks, fails, is_refused, is_banned, is_redirected, has_a_newer_ticket, opens_a_raw_route,
]  # fmt: skip


def left_of(nodes: Nodes) -> Counter[str]:
    found = Counter(orjson.loads(nodes.nodes["n1"].get("/alive").content))
    found["descriptors"] = psutil.Process(nodes.nodes["n1"].child.pid).num_fds()
    return found


@pytest.mark.parametrize("kind", SESSIONS, ids=lambda kind: kind.__name__)
def test_an_ended_session_is_gone(node: Nodes, kind: Callable[[Nodes, str], None]) -> None:
    for number in range(2):
        kind(node, node.uid_of("n1", f"ended-first-{kind.__name__}-{number}"))
    until(lambda: node.nodes["n1"].metric("connections") == 0)
    before = left_of(node)
    for number in range(CLIENTS):
        kind(node, node.uid_of("n1", f"ended-{kind.__name__}-{number}"))
    gone(before, lambda: left_of(node))


def test_a_session_that_moved_is_gone(node: Nodes) -> None:
    before = left_of(node)
    uids = [node.uid_of("n2", f"ended-moved-{number}") for number in range(CLIENTS)]
    node.ring("n1")
    clients = [node.join(uid, "n1") for uid in uids]
    node.ring("n1", "n2")
    assert [client.closed() for client in clients] == [4300] * CLIENTS
    gone(before, lambda: left_of(node))


def test_a_session_that_was_replaced_is_gone(
    zookeeper_server: zookeepers.Provider, redis_server: redises.Provider
) -> None:
    env = {"RINGWAY_APP": "tests.ws_server.ended:plain", "RINGWAY_SINGLE_SESSION": "true"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", env=env) as nodes:
        before = left_of(nodes)
        clients = [nodes.join("ended-replaced") for _ in range(CLIENTS + 1)]
        assert [client.closed() for client in clients[:-1]] == [4009] * CLIENTS
        gone(before, lambda: left_of(nodes))
