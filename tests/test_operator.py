"""What the operator's tools print, and which lookup they ask."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import certifi
import pytest

from ringway import doctor_http, operator
from ringway.chaos.shares import RingWatch
from ringway.core.members import Version
from ringway.operator import (
    LookupApi,
    LookupFailed,
    NotDrained,
    drain,
    follow,
    message,
    moves_line,
    ring_change,
    show_preview,
    show_ring,
    show_route,
    table,
)


@pytest.fixture
def no_certifi(monkeypatch: pytest.MonkeyPatch) -> None:
    def where() -> str:
        raise AssertionError("authorities of httpx's own are asked for")

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(certifi, "where", where)


def document(epoch: int, **members: dict[str, Any]) -> dict[str, Any]:
    base = {"state": "active", "vnodes": 256, "url": "ws://h/ws"}
    return {
        "gen": 1000,
        "epoch": epoch,
        "alg": "xxh64-v1",
        "checksum": "c" * 64,
        "members": [{"id": name, **base, **fields} for name, fields in members.items()],
    }


@contextmanager
def lookup(status: int, body: bytes, content_type: str = "application/json") -> Iterator[tuple[str, list[str]]]:
    """A lookup that always answers the same, and the request lines it got."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key, after = self.headers.get("Authorization"), self.headers.get("Last-Event-ID")
            got.append(f"{self.requestline} key={key} after={after}")
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


def test_a_lookup_that_cannot_be_reached_is_passed_over() -> None:
    with lookup(200, b'{"a": 1}') as (url, got):
        assert LookupApi(["http://127.0.0.1:1", url], "secret").get("/ring", x="y", none=None) == {"a": 1}
        assert got == ["GET /ring?x=y HTTP/1.1 key=Bearer secret after=None"]


def test_no_lookup_at_all_is_one_error_that_says_what_to_set() -> None:
    with pytest.raises(LookupFailed, match=r"http://127\.0\.0\.1:1: .*set RINGWAY_LOOKUP"):
        LookupApi(["http://127.0.0.1:1"]).get("/ring")


def test_a_refusal_is_shown_in_the_lookups_own_words() -> None:
    with (
        lookup(400, b'{"error": "bad_uid", "message": "uid=\'\': must be"}') as (url, _),
        pytest.raises(LookupFailed, match=r"400 bad_uid: uid='': must be"),
    ):
        LookupApi([url]).get("/route")


def test_an_answer_that_is_not_json_is_an_error() -> None:
    with lookup(502, b"<html>Bad gateway") as (url, _), pytest.raises(LookupFailed, match="502 not_json: <html>Bad"):
        LookupApi([url]).get("/route")


class Drained:
    """A lookup's answers while a node drains: its figures, poll by poll; after the last it is not listed."""

    def __init__(self, *sessions: int | None, others: int = 0, redis: bool = True) -> None:
        self.sessions, self.redis = iter(sessions), redis
        self.others = [{"id": f"other-{n}", "state": "active", "sessions": 1} for n in range(others)]

    def call(self, method: str, path: str) -> dict[str, Any]:
        assert (method, path) == ("POST", "/nodes/n1/drain")
        return {"was": "active"}

    def get(self, path: str) -> dict[str, Any]:
        left = itertools.islice(self.sessions, 1)
        return {"nodes": [*self.others, *({"id": "n1", "state": "draining", "sessions": n} for n in left)]}

    def health(self) -> dict[str, Any]:
        return {"redis": self.redis}


def drained(*sessions: int | None, **cluster: Any) -> list[str]:
    api: Any = Drained(*sessions, **cluster)
    return [line.partition("n1 ")[2] for line in drain(api, "n1")]


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringway.operator.POLL_S", 0.0)


@pytest.mark.usefixtures("_at_once")
def test_a_drain_is_told_until_the_node_has_left() -> None:
    lines = drained(None, 2, 2, 0, None, None, others=1)
    assert lines[1:] == ["draining, 2 sessions left", "draining, 0 sessions left", "has left the ring"]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(("others", "why"), [(0, "the last active one"), (2, "when its ZooKeeper session ends")])
def test_a_drain_of_a_node_that_is_gone_and_stays_on_the_ring_ends_with_the_reason(others: int, why: str) -> None:
    with pytest.raises(NotDrained, match=why):
        drained(3, *[None] * 1000, others=others)


@pytest.mark.usefixtures("_at_once")
def test_a_drain_goes_on_while_redis_has_nobodys_figures() -> None:
    assert drained(3, *[None] * 1000, redis=False)[-1] == "has left the ring"


def test_events_are_read_as_they_come() -> None:
    stream = b': hello\n\nevent: ring\nid: 1\ndata: {"epoch": 1}\n\nevent: node\ndata: {"n":\ndata: 2}\n\n'
    with lookup(200, stream, "text/event-stream") as (url, _):
        assert list(LookupApi([url]).events()) == [("ring", {"epoch": 1}), ("node", {"n": 2})]


def test_a_change_of_the_ring_is_one_line_with_who_and_how_many() -> None:
    old = document(1, a={}, b={}, c={"vnodes": 128})
    new = document(2, b={"state": "draining"}, c={"vnodes": 256}, d={})
    what = "ring 1000.2: + d (active), - a, b state active -> draining, c vnodes 128 -> 256; 2 active"
    assert ring_change(old, new) == what
    assert ring_change(old, new | {"moved": 0.25, "sessions_moved": None}) == f"{what}; 25.0% of all users move"
    told = ring_change(old, new | {"moved": 0.25, "sessions_moved": 50})
    assert told == f"{what}; 25.0% of all users move, about 50 sessions"


def test_a_nodes_moves_are_counted_since_it_started() -> None:
    assert moves_line({"node": "a", "left": 3, "told": 40}) == "a: 3 sessions left to move, 40 told since it started"
    assert moves_line({"node": "a", "left": 7}) == "a: 7 sessions left to move, 0 told since it started"


def test_a_watch_that_changes_the_lookup_says_after_which_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def ring(epoch: int) -> bytes:
        return f"id: x-{epoch}-1000.{epoch}\nevent: ring\ndata: {json.dumps(document(epoch, a={}))}\n\n".encode()

    monkeypatch.setattr(operator, "POLL_S", 0.0)
    with (
        lookup(200, ring(2), "text/event-stream") as (one, first),
        lookup(200, ring(3) + ring(4), "text/event-stream") as (two, second),
    ):
        lines = follow(LookupApi([one, two]), document(1, a={}))
        told = [next(lines).split(":")[0] for _ in range(3)]
    assert told == ["ring 1000.2", "ring 1000.3", "ring 1000.4"]
    assert first[0].endswith("after=None")
    assert second[0].endswith("after=x-2-1000.2")


def test_the_ring_is_a_table() -> None:
    text = show_ring(document(3, a={}, b={}), [{"id": "a", "share": 0.5, "sessions": 7}])
    assert text.splitlines()[0] == "ring 1000.3 xxh64-v1 checksum cccccccccccc"
    assert text.splitlines()[2].split() == ["a", "active", "256", "50.0%", "7", "ws://h/ws"]
    assert text.splitlines()[3].split() == ["b", "active", "256", "-", "-", "ws://h/ws"]


def test_the_ring_names_who_is_not_in_it_and_why() -> None:
    waiting = [{"id": "c", "state": "joining", "reason": "it is not ready; its /readyz says why"}]
    text = show_ring(document(3, a={}), [], waiting)
    assert text.endswith("\nnot in the ring:\nnode  state    why\nc     joining  it is not ready; its /readyz says why")
    assert "not in the ring" not in show_ring(document(3, a={}), [])


def test_a_route_ends_with_the_url_alone() -> None:
    answer = {"uid": "a", "node": "n", "url": "ws://x", "gen": 1, "epoch": 2, "candidates": ["n"], "expires_in": 30}
    stale = show_route({**answer, "stale": True, "explain": {"hash": "ff"}})
    assert stale.splitlines()[-1] == "ws://x"
    assert "stale" in stale
    assert "hash: ff" in stale


def test_a_preview_says_what_would_move() -> None:
    node = {"id": "n", "vnodes": 256, "share_before": 0.5, "share_after": 0.25}
    node |= {"sessions_before": 4, "sessions_after": 2}
    answer = {"gen": 1, "epoch": 2, "moved_share": 0.25, "sessions": 8, "sessions_moved": 2, "nodes": [node]}
    assert show_preview(answer).startswith("from ring 1.2: 25.0% of all users, 2 of 8 sessions would move")


def test_each_message_has_an_id_of_its_own() -> None:
    first, second = message("u", "hi", volatile=False), message("u", "hi", volatile=True)
    assert first["id"] != second["id"]
    assert ("volatile" in first, second["volatile"]) == (False, True)
    assert json.dumps(first)


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert table(["a", "b"], [["long", None]]) == "a     b\nlong  -"


@pytest.mark.usefixtures("no_certifi")
def test_commands_go_by_the_authorities_of_the_system_as_the_sdks_do() -> None:
    """Or they would not know a company's own, which the machines of its clients trust."""
    with lookup(200, json.dumps(document(1, n1={"http": "http://h"}) | {"nodes": []}).encode()) as (url, _):
        assert LookupApi([url]).get("/ring")["epoch"] == 1
        assert doctor_http.ask_lookup(url, 5.0).views[0].version == Version(1000, 1)
        watch = RingWatch([url])
        asyncio.run(watch.look())
        assert watch.rings == [{"n1": 256}]
