"""The node's own HTTP routes, of a real node process."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import orjson

from ringway.zookeeper.probe import livez
from tests.ws_server.nodes import Nodes, RunningNode, until


def take_the_only_place(node: RunningNode) -> tuple[HTTPConnection, bytes]:
    """A connection that keeps it, and Flask's answer to /livez; waits for those who had it before."""

    def ask() -> tuple[HTTPConnection, bytes] | None:
        kept = HTTPConnection(urlsplit(node.http).netloc, timeout=5.0)
        kept.request("GET", "/livez")
        answer = kept.getresponse()
        body = answer.read()
        if answer.getheader("Date"):  # pywsgi's
            return kept, body
        kept.close()
        return None

    taken: tuple[HTTPConnection, bytes] = until(ask)
    return taken


def test_a_node_with_no_room_for_another_request_is_known_to_live(zookeeper: str, redis_url: str) -> None:
    with Nodes(zookeeper, redis_url, env={"RINGWAY_MAX_REQUESTS": "1"}) as nodes:
        node = nodes.start("n1")
        kept, by_flask = take_the_only_place(node)
        with closing(kept):
            assert node.get("/readyz").status_code == 503
            by_acceptor = node.get("/livez")
            assert by_acceptor.json() == orjson.loads(by_flask)
            assert by_acceptor.headers["content-type"] == "application/json"
            assert livez(node.http, by_acceptor.json()["boot_id"])
            assert not livez(node.http, "another boot")
