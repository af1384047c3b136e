from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from ringway.core.errors import InvalidInput
from ringway.core.members import Member, State
from ringway.core.tickets import verify
from ringway.lookup_service.answers import Answer
from ringway.lookup_service.auth import Identity
from ringway.lookup_service.routing import RouteQuery, Router, parse, parse_any
from ringway.lookup_service.slots import ConnectSlots
from tests.lookup_service.helpers import (
    GEN,
    KEYS,
    Counted,
    FakeSoftDown,
    Fresh,
    document,
    environ,
    member,
    rings,
    router,
)

ODD_UIDS = ["用户7", "a&b#c+d/e", "%41", "x" * 256, "é" * 128, "🦊🦊", "a b", "+", "%", "ünï?=&"]


def ask(at: Router, query: str, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    answer: Answer = at.answer(environ(query, **headers))
    return answer.status, orjson.loads(answer.body), dict(answer.headers)


def test_the_answer_has_all_that_the_contract_names() -> None:
    status, body, headers = ask(router(rings("n1", "n2", "n3", epoch=7)), "uid=alice")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert set(body) >= {"uid", "node", "url", "gen", "epoch", "ticket", "expires_in", "candidates", "connect_after_ms",
                         "stale"}  # fmt: skip
    assert (body["uid"], body["gen"], body["epoch"], body["stale"]) == ("alice", GEN, 7, False)
    assert body["url"] == f"ws://{body['node']}.test/ws?ticket={body['ticket']}"
    assert body["candidates"][0] == body["node"]
    assert len(body["candidates"]) == 3


def test_the_ticket_is_for_that_node_and_uid() -> None:
    at = router(rings("n1", "n2"), authenticate=lambda request: Identity(None, ("admin",)))
    _, body, _ = ask(at, "uid=alice")
    ticket = verify(body["ticket"], KEYS, node=body["node"], now=at.clock())
    assert (ticket.uid, ticket.roles, ticket.reason) == ("alice", ("admin",), "route")
    assert ticket.exp == at.clock() + body["expires_in"]


QUERIES = ["uid=alice", "uid=a-b.c_d~e", "uid=" + "x" * 256, "uid=" + "x" * 257, "uid=", "uid", "", "uid=a&uid=b",
           "uid=a&", "&uid=a", "uid=a+b", "uid=a%20b", "uid=%zz", "uid=a\n", "uid=a b", "uid=\xe9", "uid=a=b",
           "uid=a;b", "UID=a", "x=1&uid=a", "uid=a&explain=1", "uid=a&avoid=n1", "uid=a#b", "uid=\x00"]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_the_short_way_reads_a_query_as_the_long_one(query: str) -> None:
    def outcome(read: Callable[[str], RouteQuery]) -> object:
        try:
            return read(query)
        except InvalidInput as error:
            return str(error)

    assert outcome(parse) == outcome(parse_any)


def test_a_url_that_has_a_query_already_keeps_it() -> None:
    at = router(rings(Member("n1", "wss://edge.test/n?node=n1", "http://n1.test")))
    _, body, _ = ask(at, "uid=alice")
    assert body["url"] == f"wss://edge.test/n?node=n1&ticket={body['ticket']}"


@pytest.mark.parametrize("uid", ODD_UIDS)
def test_odd_uids_have_the_owner_that_the_ring_says(uid: str) -> None:
    made = rings("n1", "n2", "n3", "n4", "n5")
    status, body, _ = ask(router(made), "uid=" + quote(uid, safe=""))
    assert (status, body["uid"]) == (200, uid)
    assert body["node"] == made.current().view.ring.owner(uid)


@pytest.mark.parametrize(
    ("query", "value", "rule"),
    [
        ("", "None", "must be 1 to 256 bytes"),
        ("uid=", "''", "must be 1 to 256 bytes"),
        ("uid=" + "x" * 257, "xxxx", "must be 1 to 256 bytes"),
        ("uid=" + quote("é" * 129), "xc3", "must be 1 to 256 bytes"),
        ("uid=a%00b", "a", "control characters"),
        ("uid=a%C2%85b", "a", "control characters"),
        ("uid=%FF%FE", "xff", "UTF-8"),
        ("uid=%ED%A0%80", "xed", "UTF-8"),
        ("uid=%C0%AF", "xc0", "UTF-8"),
        ("uid=50%", "50%", "two hexadecimal digits"),
        ("uid=a&uid=b", "uid=a&uid=b", "more than once"),
        ("uid=a&min_epoch=seven", "seven", "must be gen.epoch"),
        ("uid=a&avoid=" + "n," * 9, "n,n", "more than 8"),
    ],
)  # fmt: skip
def test_bad_requests_name_value_rule_and_remedy(query: str, value: str, rule: str) -> None:
    status, body, _ = ask(router(rings("n1")), query)
    assert status == 400
    assert set(body) == {"error", "message"}
    assert value.strip("'") in body["message"]
    assert rule in body["message"]
    assert ";" in body["message"]  # what to do about it
    if "uid" in body["message"].split("=")[0]:
        assert body["error"] == "bad_uid"


def test_no_ring_and_a_ring_without_active_members_are_503() -> None:
    for made in (rings(), rings(member("n1", State.JOINING), member("n2", State.DRAINING))):
        status, body, headers = ask(router(made), "uid=alice")
        assert (status, body["error"]) == (503, "no_active_member")
        assert "no node is active" in body["message"]
        assert int(headers["Retry-After"]) >= 1


def test_zookeeper_away_is_said_with_its_age() -> None:
    _, body, _ = ask(router(rings("n1"), freshness=Fresh(12.34)), "uid=alice")
    assert (body["stale"], body["age_s"]) == (True, 12.3)


def test_a_replica_that_lags_refreshes_before_it_answers() -> None:
    made = rings("n1", epoch=4)
    at = router(made, refresh=lambda: made.apply(document(5, ["n1", "n2"])))
    status, body, _ = ask(at, f"uid=alice&min_epoch={GEN}.5")
    assert (status, body["epoch"]) == (200, 5)


def test_a_replica_that_cannot_catch_up_never_gives_an_older_answer() -> None:
    for wanted in (f"{GEN}.5", f"{GEN + 1}.1"):
        status, body, headers = ask(router(rings("n1", epoch=4)), f"uid=alice&min_epoch={wanted}")
        assert (status, body["error"]) == (503, "replica_behind")
        assert wanted in body["message"]
        assert "Retry-After" in headers


def test_a_ring_as_new_as_wanted_is_not_refreshed() -> None:
    def fail() -> None:
        raise AssertionError("refreshed")

    status, _, _ = ask(router(rings("n1", epoch=4), refresh=fail), f"uid=alice&min_epoch={GEN}.4")
    assert status == 200


def test_avoid_of_another_node_than_the_owner_asks_nobody() -> None:
    softdown = FakeSoftDown(dead=["n1", "n2"])
    made = rings("n1", "n2")
    other = {"n1": "n2", "n2": "n1"}[made.current().view.ring.owner("alice")]
    _, body, _ = ask(router(made, softdown=softdown), f"uid=alice&avoid={other}")
    assert body["node"] != other
    assert softdown.suspected == []


def test_avoid_first_looks_whether_the_ring_knows_better() -> None:
    softdown = FakeSoftDown()
    made = rings("n1", "n2")
    owner = made.current().view.ring.owner("alice")
    left = {"n1", "n2"} - {owner}
    at = router(made, softdown=softdown, refresh=lambda: made.apply(document(2, left)))
    _, body, _ = ask(at, f"uid=alice&avoid={owner}")
    assert ({body["node"]}, body["reason"], softdown.suspected) == (left, "route", [])


def test_avoid_of_a_dead_owner_goes_to_the_next_with_a_softdown_ticket() -> None:
    made = rings("n1", "n2", "n3")
    first, second, _ = made.current().view.ring.preference("alice", 3)
    softdown, observer = FakeSoftDown(dead=[first]), Counted()
    at = router(made, softdown=softdown, observer=observer)
    _, body, _ = ask(at, f"uid=alice&avoid={first}")
    assert (body["node"], body["reason"]) == (second, "softdown")
    assert verify(body["ticket"], KEYS, node=second, now=at.clock()).reason == "softdown"
    assert softdown.away == [("alice", second)]
    assert observer.outcomes == ["softdown"]


def test_avoid_of_two_dead_nodes_goes_to_the_third() -> None:
    made = rings("n1", "n2", "n3")
    first, second, third = made.current().view.ring.preference("alice", 3)
    softdown = FakeSoftDown(dead=[first, second])
    _, body, _ = ask(router(made, softdown=softdown), f"uid=alice&avoid={first},{second}")
    assert body["node"] == third


def test_avoid_of_a_node_that_is_being_probed_goes_past_it() -> None:
    made = rings("n1", "n2", "n3")
    first, second, third = made.current().view.ring.preference("alice", 3)
    softdown = FakeSoftDown(probed=[first], dead=[second])
    _, body, _ = ask(router(made, softdown=softdown), f"uid=alice&avoid={first},{second}")
    assert (body["node"], body["reason"], softdown.away) == (third, "softdown", [("alice", third)])
    _, body, _ = ask(router(made, softdown=softdown), "uid=alice")
    assert (body["node"], body["reason"]) == (first, "route")  # there is no verdict yet


def test_where_every_node_is_being_probed_the_owner_is_the_answer() -> None:
    made = rings("n1", "n2")
    owner, other = made.current().view.ring.preference("alice", 2)
    at = router(made, softdown=FakeSoftDown(probed=[owner, other]))
    _, body, _ = ask(at, f"uid=alice&avoid={owner},{other}")
    assert (body["node"], body["reason"]) == (owner, "route")


@pytest.mark.parametrize("names", [("n1",), ("n1", "n2", "n3")])
def test_when_nobody_answers_who_could_not_reach_the_owner_is_told_so(names: tuple[str, ...]) -> None:
    made, softdown = rings(*names), FakeSoftDown(dead=names)
    owner = made.current().view.ring.owner("alice")
    softdown.down = frozenset(names) - {owner}  # the owner is probed now
    status, body, headers = ask(router(made, softdown=softdown), f"uid=alice&avoid={owner}")
    assert (status, body["error"]) == (503, "no_node_answers")
    assert owner in body["message"]
    assert int(headers["Retry-After"]) >= 2


def test_when_nobody_answers_the_lookup_others_still_get_the_owner() -> None:
    made, softdown = rings("n1", "n2"), FakeSoftDown()
    softdown.down = frozenset({"n1", "n2"})
    owner, other = made.current().view.ring.preference("alice", 2)
    for query in ("uid=alice", f"uid=alice&avoid={other}"):
        status, body, _ = ask(router(made, softdown=softdown), query)
        assert (status, body["node"], body["reason"]) == (200, owner, "route")


def test_avoid_of_an_owner_that_answers_the_probe_is_still_the_owner() -> None:
    made = rings("n1", "n2")
    owner = made.current().view.ring.owner("alice")
    softdown = FakeSoftDown()
    _, body, _ = ask(router(made, softdown=softdown), f"uid=alice&avoid={owner}")
    assert (body["node"], body["reason"], softdown.suspected) == (owner, "route", [owner])


def test_marked_nodes_are_passed_over_for_everybody() -> None:
    made = rings("n1", "n2")
    softdown = FakeSoftDown()
    softdown.down = frozenset({"n1"})
    nodes = {ask(router(made, softdown=softdown), f"uid=u{i}")[1]["node"] for i in range(50)}
    assert nodes == {"n2"}
    assert softdown.suspected == []


def test_more_clients_than_a_node_takes_get_their_slot_and_then_429() -> None:
    at = router(rings("n1"), slots=ConnectSlots(rate=10, burst=1, max_wait_s=0.5))
    answers = [ask(at, f"uid=u{i}") for i in range(20)]
    assert [a[1]["connect_after_ms"] for a in answers[:6]] == [0, 100, 200, 300, 400, 500]
    status, body, headers = answers[-1]
    assert (status, body["error"]) == (429, "too_many_connects")
    assert int(headers["Retry-After"]) >= 1


def test_a_uid_that_is_not_the_identitys_is_forbidden() -> None:
    at = router(rings("n1"), authenticate=lambda request: Identity("bob"))
    assert ask(at, "uid=bob")[0] == 200
    status, body, headers = ask(at, "uid=alice")
    assert (status, body["error"]) == (403, "forbidden")
    assert "insufficient_scope" in headers["WWW-Authenticate"]


def test_an_authenticator_that_fails_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: object) -> Identity:
        raise KeyError("secret detail")

    status, body, _ = ask(router(rings("n1"), authenticate=broken), "uid=alice")
    assert (status, body["error"]) == (500, "internal")
    assert "secret detail" not in body["message"]
    assert "secret detail" in caplog.text


def test_explain_says_why() -> None:
    made = rings("n1", "n2", "n3")
    _, body, _ = ask(router(made), "uid=alice&explain=1")
    why = body["explain"]
    ring = made.current().view.ring
    position = ring.hashing.key("alice")
    assert int(why["hash"], 16) == position
    node, _, index = why["vnode"].rpartition("_")
    assert node == why["owner"] == body["node"]
    assert int(why["vnode_hash"], 16) == ring.hashing.point(node, int(index)) == ring.vnode_at(position)[1]
    assert why["vnode"] in why["why"]


def test_explain_of_a_softdown_names_both() -> None:
    made = rings("n1", "n2")
    owner, heir = made.current().view.ring.preference("alice", 2)
    softdown = FakeSoftDown(dead=[owner])
    _, body, _ = ask(router(made, softdown=softdown), f"uid=alice&avoid={owner}&explain=1")
    assert body["explain"]["down"] == [owner]
    assert f"{owner} does not answer, and {heir} is the next" in body["explain"]["why"]


def test_the_clients_of_a_marked_node_are_paced_together() -> None:
    softdown = FakeSoftDown()
    softdown.down = frozenset({"n2"})
    at = router(rings(*(f"n{i}" for i in range(1, 8))), softdown=softdown, slots=ConnectSlots(1.0, 1.0, 1e6))
    owner = at.rings.current().view.ring.owner
    last: dict[str, int] = {}
    for uid in [uid for i in range(4000) if owner(uid := f"user-{i}") == "n2"]:
        _, body, _ = ask(at, f"uid={uid}")
        last[body["node"]] = body["connect_after_ms"]
    assert len(last) == 6
    assert min(last.values()) > 0.9 * max(last.values())  # the queues end together, though one is longer by a third
