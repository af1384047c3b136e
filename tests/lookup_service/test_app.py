from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis as redis_py
from flask.testing import FlaskClient

from ringway.core.members import State, Version
from ringway.lookup_service.app import create_app
from ringway.lookup_service.fast_route import FastRoute
from ringway.lookup_service.gauges import set_gauges
from ringway.lookup_service.publisher_status import ALARMS
from ringway.lookup_service.services import Services
from ringway.lookup_service.waiting import REASONS
from ringway.store.keys import Keys
from ringway.store.limits import Limits, SharedLimits
from ringway.store.log import MessageLog
from ringway.store.node_stats import NodeStats
from ringway.store.notices import Control, LogNotice, VolatileNotice, decode
from ringway.store.presence import Presence
from ringway.store.softdown import AwayRecords
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.guards import VERDICTS
from ringway.zookeeper.ring_document import READER_ALARMS
from tests.harness.logs import append
from tests.harness.waiting import wait_until
from tests.lookup_service.conftest import API_KEY, MakeServices
from tests.lookup_service.helpers import environ
from tests.lookup_service.registered import Cluster
from tests.lookup_service.test_routing import ODD_UIDS

KEY = {"Authorization": f"Bearer {API_KEY}"}
DEEP: Any = orjson.loads("[" * 300 + "]" * 300)


@pytest.fixture
def keys(cluster_name: str) -> Keys:
    return Keys(cluster_name)


class Heard:
    """What was published on some channels, from the moment this exists."""

    def __init__(self, url: str, *channels: str) -> None:
        self._client = redis_py.Redis.from_url(url)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(*channels)
        wait_until(lambda: self._client.pubsub_numsub(*channels)[0][1] == 1)

    def next(self) -> tuple[str, Any]:
        message = wait_until(lambda: self._pubsub.get_message(timeout=1.0))
        return message["channel"].decode(), decode(message["data"])

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()


def called(app: FastRoute, request: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    began: list[Any] = []
    body = b"".join(app(request, lambda *given: began.append(given)))
    return began[0][0], began[0][1], body


# Routes


def test_flask_and_the_fast_path_give_the_same_answer(services: Services, client: FlaskClient) -> None:
    fast = FastRoute(create_app(services).wsgi_app, services.router, services.cors)
    for query in ("uid=alice", "uid=", "uid=%FF", f"uid=alice&min_epoch={Version(9_999_999_999, 1)}", "uid=a&uid=b"):
        flask = client.get(f"/route?{query}")
        status, headers, body = called(fast, environ(query))
        assert int(status.split()[0]) == flask.status_code
        volatile = ("ticket", "url", "connect_after_ms")
        mine, theirs = ({k: v for k, v in orjson.loads(b).items() if k not in volatile} for b in (body, flask.data))
        assert mine == theirs
        got, wanted = dict(headers), dict(flask.headers)
        assert got.pop("Retry-After", "0").isdigit() == wanted.pop("Retry-After", "0").isdigit()
        assert {**got, "Content-Length": 0} == {**wanted, "Content-Length": 0}


@pytest.mark.parametrize("uid", ODD_UIDS)
def test_odd_uids_have_one_owner_by_query_and_by_json(services: Services, client: FlaskClient, uid: str) -> None:
    owner = services.rings.current().view.ring.owner(uid)
    assert client.get("/route", query_string={"uid": uid}).json["node"] == owner  # type: ignore[index]
    [route] = client.post("/routes", json={"uids": [uid]}).json["routes"]  # type: ignore[index]
    assert (route["uid"], route["node"]) == (uid, owner)


def test_many_routes_at_once_with_an_error_in_its_place(client: FlaskClient) -> None:
    answer = client.post("/routes", json={"uids": ["a", "", 7, "b", "x" * 257]})
    assert answer.status_code == 200
    routes = answer.json["routes"]  # type: ignore[index]
    assert [route["uid"] for route in routes] == ["a", "", 7, "b", "x" * 257]
    assert ["error" in route for route in routes] == [False, True, True, False, True]
    assert routes[1]["error"] == "bad_uid"
    refused: list[dict[str, Any]] = [{"uids": []}, {"uids": "a"}, {}, {"uids": ["u"] * 1001}]
    for bad in refused:
        assert client.post("/routes", json=bad).status_code == 400


# Ring


def test_the_ring_is_the_document_without_its_signature(services: Services, client: FlaskClient) -> None:
    answer = client.get("/ring")
    document = services.rings.current().view.document
    assert answer.json["checksum"] == document.checksum  # type: ignore[index]
    assert [m["id"] for m in answer.json["members"]] == ["n1", "n2", "n3"]  # type: ignore[index]
    assert not {"mac", "kid"} & set(answer.json)  # type: ignore[arg-type]
    assert answer.headers["ETag"] == f'"{document.version}"'


def test_a_known_ring_is_304(client: FlaskClient) -> None:
    tag = client.get("/ring").headers["ETag"]
    again = client.get("/ring", headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert client.get("/ring", headers={"If-None-Match": '"1.1"'}).status_code == 200


def test_preview_counts_the_sessions_that_would_move(
    services: Services, client: FlaskClient, redis_url: str, keys: Keys
) -> None:
    ring = services.rings.current().view.ring
    uids = [f"user-{i}" for i in range(500)]
    for node in ("n1", "n2", "n3"):
        mine = [uid for uid in uids if ring.owner(uid) == node]
        Presence(services.redis, keys, node, f"boot-{node}").add(mine)
    said = client.get("/ring/preview?add=n4&vnodes=128").json
    assert said is not None
    new = ring.with_weights({**ring.weights, "n4": 128})
    assert said["sessions"] == 500
    assert said["sessions_moved"] == sum(ring.owner(uid) != new.owner(uid) for uid in uids)
    assert [node["id"] for node in said["nodes"]] == ["n1", "n2", "n3", "n4"]


@pytest.mark.parametrize(
    ("query", "rule"),
    [("", "nothing is added"), ("remove=n9", "not an active node"), ("add=n4&vnodes=0", "1 to 4096"),
     ("add=n4&vnodes=x", "whole number"), ("add=a%2Fb", "1 to 64"), ("remove=n1,n2,n3", "no node at all")],
)  # fmt: skip
def test_previews_that_make_no_sense(client: FlaskClient, query: str, rule: str) -> None:
    answer = client.get(f"/ring/preview?{query}")
    assert answer.status_code == 400
    assert rule in answer.json["message"]  # type: ignore[index]


# Nodes


def test_nodes_say_state_share_and_sessions(services: Services, client: FlaskClient, keys: Keys) -> None:
    NodeStats(services.redis, keys).publish("n2", {"sessions": 7})
    nodes = client.get("/nodes").json["nodes"]  # type: ignore[index]
    assert [(n["id"], n["state"], n["sessions"]) for n in nodes] == [
        ("n1", "active", None), ("n2", "active", 7), ("n3", "active", None),
    ]  # fmt: skip
    assert sum(n["share"] for n in nodes) == pytest.approx(1.0)


def test_nodes_that_wait_to_be_admitted_are_listed_with_the_reason(
    services: Services, client: FlaskClient, nodes: Cluster, make_services: MakeServices
) -> None:
    nodes.node("n4", State.JOINING)
    services.publisher._options = replace(services.config.guards, join_delay_s=600.0)
    nodes.node("n5")
    other = create_app(make_services()).test_client()  # not the publisher: it does not know what the guards say
    wait_until(lambda: said(client).keys() == {"n4", "n5"} == said(other).keys())
    assert said(client) == {"n4": ("joining", "it is not ready; its /readyz says why"),
                            "n5": ("active", "it must be ready for 600 s")}
    assert said(other)["n4"] == said(client)["n4"]
    assert said(other)["n5"] == ("active", REASONS[State.ACTIVE])
    assert {node["id"] for node in client.get("/nodes").json["nodes"]} == {"n1", "n2", "n3"}  # type: ignore[index]


def said(client: FlaskClient) -> dict[str, tuple[str, str]]:
    waiting = client.get("/nodes").json["waiting"]  # type: ignore[index]
    return {node["id"]: (node["state"], node["reason"]) for node in waiting}


def test_drain_is_an_order_to_the_node(client: FlaskClient, redis_url: str, keys: Keys) -> None:
    heard = Heard(redis_url, keys.node_channel("n2"))
    answer = client.post("/nodes/n2/drain", headers=KEY)
    assert (answer.status_code, answer.json) == (202, {"node": "n2", "state": "draining", "was": "active"})
    assert heard.next() == (keys.node_channel("n2"), Control("drain", {}))
    heard.close()
    assert client.post("/nodes/n9/drain", headers=KEY).status_code == 404


def test_rebalance_and_close_are_orders_too(client: FlaskClient, redis_url: str, keys: Keys) -> None:
    heard = Heard(redis_url, keys.node_channel("n2"), keys.all_channel)
    assert client.post("/nodes/n2/rebalance", headers=KEY).status_code == 202
    assert heard.next() == (keys.node_channel("n2"), Control("rebalance", {}))
    assert client.post("/close", json={"uid": "alice"}, headers=KEY).status_code == 202
    assert heard.next() == (keys.all_channel, Control("close", {"uid": "alice"}))
    client.post("/close", json={"uid": "alice", "sign_out": True}, headers=KEY)
    assert heard.next() == (keys.all_channel, Control("sign_out", {"uid": "alice"}))
    heard.close()
    refused: list[dict[str, Any]] = [{}, {"uid": ""}, {"uid": "a", "sign_out": 1}]
    for bad in refused:
        assert client.post("/close", json=bad, headers=KEY).status_code == 400


# Push


def test_a_pushed_message_is_in_the_inbox_and_its_owner_is_told(
    services: Services, client: FlaskClient, redis_url: str, keys: Keys
) -> None:
    owner = services.rings.current().view.ring.owner("alice")
    heard = Heard(redis_url, keys.node_channel(owner))
    answer = client.post("/send", json={"to": "alice", "body": {"n": 1}, "id": "m1"}, headers=KEY)
    assert answer.status_code == 200
    [sent] = answer.json["sent"]  # type: ignore[index]
    assert (sent["uid"], sent["seq"], sent["duplicate"]) == ("alice", 1, False)
    _, notice = heard.next()
    assert isinstance(notice, LogNotice)
    assert orjson.loads(notice.frame) | {"ts": 0} == {
        "t": "msg", "ch": "u:alice", "id": "m1", "from": "", "body": {"n": 1}, "gen": sent["gen"], "seq": 1, "ts": 0,
    }  # fmt: skip
    heard.close()


def test_a_push_cuts_no_log_shorter_than_nodes_do(make_services: MakeServices, redis_url: str, keys: Keys) -> None:
    nodes_have = Limits(cap=3000)
    with redis_py.Redis.from_url(redis_url) as redis:
        SharedLimits(redis, keys).put(nodes_have)
        client = create_app(make_services(api_keys=(API_KEY,))).test_client()
        log = MessageLog(redis, keys, limits=nodes_have)
        append(log, *range(2000))
        assert client.post("/send", json={"to": "bob", "body": 1}, headers=KEY).status_code == 200
        assert log.read("u:bob", None, 0).pending == 2001


def test_the_same_id_twice_is_one_message(client: FlaskClient) -> None:
    message = {"to": ["alice", "bob"], "body": "hi", "id": "m1"}
    first, second = (client.post("/send", json=message, headers=KEY).json for _ in range(2))
    assert first is not None
    assert second is not None
    assert [s["seq"] for s in second["sent"]] == [s["seq"] for s in first["sent"]] == [1, 1]
    assert [s["duplicate"] for s in second["sent"]] == [True, True]
    assert client.get("/unread?uid=alice", headers=KEY).json == {"uid": "alice", "unread": 1, "groups": {}}


def test_a_user_away_from_a_silent_owner_is_told_where_they_are(
    services: Services, client: FlaskClient, redis_url: str, keys: Keys
) -> None:
    owner, heir = services.rings.current().view.ring.preference("alice", 2)
    AwayRecords(services.redis, keys).put({"alice": heir})
    heard = Heard(redis_url, keys.node_channel(heir))
    client.post("/send", json={"to": "alice", "body": 1}, headers=KEY)
    channel, notice = heard.next()
    assert channel == keys.node_channel(heir)
    assert isinstance(notice, LogNotice)
    assert notice.forwarded
    heard.close()
    assert owner != heir


def test_volatile_messages_are_in_no_log(services: Services, client: FlaskClient, redis_url: str, keys: Keys) -> None:
    owner = services.rings.current().view.ring.owner("alice")
    heard = Heard(redis_url, keys.node_channel(owner))
    answer = client.post("/send", json={"to": "alice", "body": 1, "volatile": True}, headers=KEY)
    assert answer.status_code == 202
    _, notice = heard.next()
    assert isinstance(notice, VolatileNotice)
    assert client.get("/unread?uid=alice", headers=KEY).json["unread"] == 0  # type: ignore[index]
    heard.close()


def test_groups_and_everybody(services: Services, client: FlaskClient, redis_url: str, keys: Keys) -> None:
    heard = Heard(redis_url, keys.group_channel("room"), keys.all_channel)
    answer = client.post("/publish", json={"group": "room", "body": "hi", "id": "p1"}, headers=KEY)
    assert (answer.json["group"], answer.json["seq"]) == ("room", 1)  # type: ignore[index]
    assert heard.next()[1].ch == "g:room"
    assert client.post("/broadcast", json={"body": "all"}, headers=KEY).status_code == 202
    channel, notice = heard.next()
    assert (channel, notice.ch) == (keys.all_channel, "*")
    heard.close()
    unread = client.get("/unread?uid=alice&group=room", headers=KEY).json
    assert unread == {"uid": "alice", "unread": 0, "groups": {"room": 1}}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/send", {"body": 1}), ("/send", {"to": [], "body": 1}), ("/send", {"to": "a"}), ("/send", {"to": "", "body": 1}),
     ("/send", {"to": "a", "body": 1, "id": "has space"}), ("/send", {"to": "a", "body": "x" * 65_536}),
     ("/publish", {"body": 1}), ("/broadcast", {}), ("/send", {"to": "a", "body": 1, "volatile": "yes"}),
     ("/send", {"to": "a", "body": DEEP}), ("/send", {"to": "a", "body": DEEP, "volatile": True}),
     ("/publish", {"group": "g", "body": DEEP}), ("/broadcast", {"body": DEEP}), ("/send", {"to": DEEP, "body": 1})],
)  # fmt: skip
def test_messages_that_break_a_rule(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body, headers=KEY)
    assert answer.status_code == 400
    assert set(answer.json) == {"error", "message"}  # type: ignore[arg-type]


def test_back_end_endpoints_need_a_key(client: FlaskClient) -> None:
    calls = [("POST", "/send"), ("POST", "/publish"), ("POST", "/broadcast"), ("POST", "/nodes/n1/drain"),
             ("GET", "/presence?uid=a"), ("POST", "/presence"), ("POST", "/ring/accept-losses"),
             ("POST", "/close"), ("POST", "/nodes/n1/rebalance")]  # fmt: skip
    for method, path in calls:
        for headers in ({}, {"Authorization": "Bearer a-wrong-key-of-somebody"}):
            answer = client.open(path, method=method, headers=headers)
            assert (answer.status_code, answer.json["error"]) == (401, "unauthorized"), path  # type: ignore[index]
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_page_cannot_push_without_asking(client: FlaskClient) -> None:
    body = orjson.dumps({"to": "alice", "body": 1})
    assert client.post("/send", data=body, headers={**KEY, "Content-Type": "text/plain"}).status_code == 415
    for data in (b"{", b"[]", b"7"):
        assert client.post("/send", data=data, headers={**KEY, "Content-Type": "application/json"}).status_code == 400


def test_a_page_of_another_site_cannot_give_orders(make_services: MakeServices, nodes: Cluster) -> None:
    services = make_services()  # development: no keys
    nodes.node("n1")
    wait_until(lambda: services.rings.latest)
    client = create_app(services).test_client()
    for path in ("/nodes/n1/drain", "/ring/accept-losses", "/send"):
        answer = client.post(path, headers={"Origin": "https://evil.test"})
        assert (answer.status_code, answer.json["error"]) == (403, "foreign_origin")  # type: ignore[index]
    assert client.post("/nodes/n1/drain", headers={"Origin": "http://localhost"}).status_code == 202
    assert client.post("/nodes/n1/drain").status_code == 202


# Presence and unread


def test_presence_of_one_and_of_many(services: Services, client: FlaskClient, keys: Keys) -> None:
    Presence(services.redis, keys, "n2", "boot").add(["alice", "用户7"])
    assert client.get("/presence?uid=alice&uid=bob", headers=KEY).json == {
        "users": [{"uid": "alice", "online": True, "node": "n2"}, {"uid": "bob", "online": False, "node": None}]
    }
    many = client.post("/presence", json={"uids": ["用户7"]}, headers=KEY).json
    assert many == {"users": [{"uid": "用户7", "online": True, "node": "n2"}]}
    assert client.get("/presence", headers=KEY).status_code == 400


def test_a_user_may_ask_for_the_own_unread_only(make_services: MakeServices, redis_url: str, keys: Keys) -> None:
    services = make_services(auth="tests.lookup_service.test_auth:by_header", api_keys=(API_KEY,))
    client = create_app(services).test_client()
    assert client.get("/unread?uid=alice", headers={"X-User": "alice"}).json["unread"] == 0  # type: ignore[index]
    assert client.get("/unread?uid=alice", headers={"X-User": "bob"}).status_code == 403
    assert client.get("/unread?uid=alice").status_code == 401
    assert client.get("/unread?uid=alice", headers=KEY).status_code == 200


def test_redis_away_is_503_with_retry_after(services: Services, client: FlaskClient) -> None:
    services.log = MessageLog(redis_py.Redis(port=1, socket_connect_timeout=0.2), Keys("away"))
    answer = client.get("/unread?uid=alice", headers=KEY)
    assert (answer.status_code, answer.json["error"]) == (503, "unavailable")  # type: ignore[index]
    assert int(answer.headers["Retry-After"]) >= 1


# Events


def test_events_begin_with_the_state_and_tell_of_a_new_ring(
    services: Services, client: FlaskClient, nodes: Cluster
) -> None:
    answer = client.get("/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    frames = answer.iter_encoded()
    first = next(frames).decode()
    assert "event: ring" in first
    assert "event: nodes" in first
    nodes.node("n4")
    ring = next(frame for frame in frames if b"event: ring" in frame)
    data = orjson.loads(ring.split(b"data: ")[1])
    assert "n4" in {member["id"] for member in data["members"]}
    assert 0.1 < data["moved"] < 0.4
    assert data["sessions_moved"] is None, "the nodes have not said how many they have"
    answer.close()
    assert services.hub.count == 0


def test_a_new_ring_tells_how_many_sessions_it_moves(
    services: Services, client: FlaskClient, nodes: Cluster, keys: Keys
) -> None:
    for node in ("n1", "n2", "n3"):
        NodeStats(services.redis, keys).publish(node, {"sessions": 1000})
    answer = client.get("/events")
    frames = answer.iter_encoded()
    next(frames)
    nodes.node("n4")
    ring = next(frame for frame in frames if b"event: ring" in frame)
    data = orjson.loads(ring.split(b"data: ")[1])
    assert data["sessions_moved"] == pytest.approx(3000 * data["moved"], rel=0.2)
    answer.close()


def test_events_of_nodes_are_passed_on(services: Services, client: FlaskClient, redis_url: str, keys: Keys) -> None:
    answer = client.get("/events")
    frames = answer.iter_encoded()
    next(frames)
    tell = redis_py.Redis.from_url(redis_url)
    for bad in (b"not json", b"[]", b'{"t": "a\\ndata: b"}', b"{}"):
        tell.publish(keys.events_channel, bad)
    tell.publish(keys.events_channel, orjson.dumps({"t": "moves", "node": "n1", "moved": 3}))
    moves = next(frame for frame in frames if b"event: moves" in frame)
    assert orjson.loads(moves.split(b"data: ")[1]) == {"t": "moves", "node": "n1", "moved": 3}
    answer.close()
    tell.close()


# The rest


def test_errors_of_flask_have_the_same_form(client: FlaskClient) -> None:
    for method, path, status, code in [
        ("GET", "/nothing-here", 404, "not_found"),
        ("DELETE", "/ring", 405, "method_not_allowed"),
        ("GET", "/dashboard/../config.py", 404, "not_found"),
    ]:
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.json["error"]) == (status, code)  # type: ignore[index]
        assert set(answer.json) == {"error", "message"}  # type: ignore[arg-type]
    assert "Allow" in client.delete("/ring").headers
    too_much = client.post("/send", data=b"x" * 3_000_000, headers={**KEY, "Content-Type": "application/json"})
    assert (too_much.status_code, too_much.json["error"]) == (413, "request_entity_too_large")  # type: ignore[index]


def test_a_bug_is_a_500_that_tells_nothing(services: Services, client: FlaskClient) -> None:
    def bug() -> None:
        raise ZeroDivisionError("inner detail")

    services.nodes = bug  # type: ignore[method-assign, assignment]
    answer = client.get("/nodes")
    assert (answer.status_code, answer.json["error"]) == (500, "internal")  # type: ignore[index]
    assert "inner detail" not in answer.json["message"]  # type: ignore[index]


def test_browsers_may_ask_with_a_token(client: FlaskClient) -> None:
    asks = {"Origin": "https://app.test", "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization"}  # fmt: skip
    preflight = client.options("/route?uid=alice", headers=asks)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for path, status in (("/route?uid=alice", 200), ("/route?uid=", 400), ("/ring", 200)):
        answer = client.get(path, headers={"Origin": "https://app.test"})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in client.options("/send", headers=asks).headers


def test_health(client: FlaskClient, services: Services) -> None:
    assert client.get("/livez").json == {"ok": True}
    ready = client.get("/readyz")
    version = str(services.rings.current().view.version)
    assert (ready.status_code, ready.json) == (
        200,
        {"ready": True, "ring": version, "zookeeper": True, "redis": True, "down": [],
         "documents_dropped": {}, "stale": False},
    )  # fmt: skip


def test_nodes_that_do_not_answer_are_named_alike_and_who_needs_one_is_told(
    services: Services, client: FlaskClient, nodes: Cluster
) -> None:
    owner = services.rings.current().view.ring.owner("alice")
    for node in ("n1", "n2", "n3"):
        nodes.nodes[node].livez.stop()
        services.softdown.suspect(services.rings.current().view.members[node])
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["down"]) == (200, ["n1", "n2", "n3"])  # type: ignore[index]
    assert {node["down"] for node in client.get("/nodes").json["nodes"]} == {True}  # type: ignore[index]
    answer = client.get(f"/route?uid=alice&avoid={owner}")
    assert (answer.status_code, answer.json["error"]) == (503, "no_node_answers")  # type: ignore[index]
    assert client.get("/route?uid=alice").json["node"] == owner  # type: ignore[index]


def test_znodes_that_stay_open_are_told_by_readyz_and_metrics(
    services: Services, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ZooKeeper, "problem", "RINGWAY_ZOOKEEPER_DIGEST='ringway:***': cannot close ...")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["zookeeper_problem"]) == (200, services.zk.problem)  # type: ignore[index]
    set_gauges(services)
    assert "\nringway_lookup_zookeeper_access_problem 1.0\n" in client.get("/metrics").text


def test_not_ready_without_a_node(make_services: MakeServices) -> None:
    client = create_app(make_services()).test_client()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["ready"]) == (503, False)  # type: ignore[index]
    for path in ("/route?uid=a", "/ring", "/ring/preview?add=n1"):
        answer = client.get(path)
        assert (answer.status_code, answer.json["error"]) == (503, "no_active_member")  # type: ignore[index]
        assert "Retry-After" in answer.headers


def test_metrics_tell_ring_routes_and_refusals(services: Services, client: FlaskClient) -> None:
    client.get("/route?uid=alice")
    client.get("/route?uid=")
    client.get("/nothing")
    document = services.rings.current().view.document
    wanted = {
        'routes_total{outcome="route"}': 1,
        'routes_total{outcome="bad_uid"}': 1,
        'refusals_total{cause="bad_uid"}': 1,
        'refusals_total{cause="not_found"}': 1,
        "route_seconds_count": 2,
        "ring_gen": document.gen,
        "ring_epoch": document.epoch,
        "ring_checksum": int(document.checksum[:13], 16),
        "ring_age_seconds": 0,
        'ring_members{state="active"}': 3,
        "publisher": 1,
        "zookeeper_connected": 1,
        "redis_connected": 1,
        "sse_listeners": 0,
    }

    def said() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
        values = {name.removeprefix("ringway_lookup_"): float(value) for name, value in lines}
        return {name: values.get(name, -1) for name in wanted}

    wait_until(lambda: said() == wanted, message=f"{said()} is {wanted}")


def test_metrics_have_a_zero_for_what_has_not_happened_yet(make_services: MakeServices) -> None:
    """An alert on an increase misses the first event of a series that was not there before."""
    services = make_services()
    set_gauges(services)
    text = services.metrics.text().decode()
    expected = [
        *(f'publisher_{name}{{action="{action}",guard="{guard}"}}' for guard, action in VERDICTS
          for name in ("guards", "decisions")),
        *(f'ring_alarms{{alarm="{alarm}",part="publisher"}}' for alarm in ALARMS),
        *(f'ring_alarms{{alarm="{alarm}",part="reader"}}' for alarm in READER_ALARMS),
        *(f'ring_documents_refused_total{{cause="{cause}"}}' for cause in ("DocumentForged", "ConfigError")),
        *(f'registered_nodes{{state="{state}"}}' for state in ("joining", "active", "draining")),
        'zookeeper_events{event="restarts"}',
    ]  # fmt: skip
    assert [name for name in expected if f"\nringway_lookup_{name} 0.0\n" not in text] == []
    assert '\nringway_lookup_zookeeper_events{event="sessions"} 1.0\n' in text


def test_the_dashboard_is_served_with_a_strict_policy(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    for line in page.text.splitlines():
        assert "http://" not in line.replace("http://www.w3.org/", "")
        assert "https://" not in line


def test_softdown_of_a_node_that_died_while_listed(services: Services, client: FlaskClient, nodes: Cluster) -> None:
    uid = next(uid for uid in map(str, range(1000)) if services.rings.current().view.ring.owner(uid) == "n2")
    assert client.get(f"/route?uid={uid}&avoid=n2").json["node"] == "n2"  # type: ignore[index] # it answers the probe
    services.softdown._alive_at.clear()
    nodes.nodes["n2"].livez.stop()
    answer = client.get(f"/route?uid={uid}&avoid=n2").json
    assert answer is not None
    assert (answer["node"], answer["reason"]) == (answer["candidates"][1], "softdown")
    assert client.get(f"/route?uid={uid}").json["node"] == answer["node"]  # type: ignore[index] # others need no avoid
    wait_until(lambda: services.push._away.of([uid]) == {uid: answer["node"]})
    nodes.nodes["n2"].livez.start()
    wait_until(lambda: client.get(f"/route?uid={uid}").json["node"] == "n2")  # type: ignore[index]


def test_requests_in_many_threads(services: Services) -> None:
    app = create_app(services)
    failures: list[object] = []

    def work(start: int) -> None:
        client = app.test_client()
        for i in range(start, start + 50):
            answer = client.get(f"/route?uid=user-{i}")
            if answer.status_code != 200:
                failures.append(answer.data)

    threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
