"""The node's own HTTP routes, of a real node process."""

from __future__ import annotations

from contextlib import closing
from socket import create_connection
from urllib.parse import urlsplit

from ringway.zookeeper.probe import livez
from tests.ws_server.nodes import Nodes


def test_a_node_with_no_room_for_another_request_is_known_to_live(zookeeper: str, redis_url: str) -> None:
    with Nodes(zookeeper, redis_url, "n1", env={"RINGWAY_MAX_REQUESTS": "1"}) as nodes:
        node = nodes.nodes["n1"]
        by_flask = node.get("/livez")
        boot_id = by_flask.json()["boot_id"]
        address = urlsplit(node.http)
        with closing(create_connection((address.hostname, address.port), 5.0)) as kept:
            kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert node.get("/readyz").status_code == 503
            by_acceptor = node.get("/livez")
            assert by_acceptor.json() == by_flask.json()
            assert by_acceptor.headers["content-type"] == by_flask.headers["content-type"]
            assert livez(node.http, boot_id)
            assert not livez(node.http, "another boot")
