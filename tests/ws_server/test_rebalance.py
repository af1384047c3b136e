from __future__ import annotations

from typing import Any

from ringway.core.history import Change, RingView
from ringway.core.members import Member, RingDocument, State
from ringway.core.ring import Ring
from ringway.ws_server.rebalance import CALM_S, Breaker, Plan, joined, new_home
from ringway.ws_server.sessions import Session, Sessions, User

from .test_admission import XXH
from .test_sessions import Conn

ME = "n1"


def view(weights: dict[str, int], epoch: int = 1, **states: State) -> RingView:
    members = tuple(Member(i, f"ws://{i}/ws", f"http://{i}", n, states.get(i, State.ACTIVE))
                    for i, n in sorted(weights.items()))
    document = RingDocument(1, epoch, XXH.name, members, "c", "k", "m")
    return RingView(document, Ring.build(document.weights, XXH))


def users(n: int, sessions_each: int = 1) -> list[User]:
    sessions = Sessions(XXH.key)
    for i in range(n):
        for _ in range(sessions_each):
            conn: Any = Conn()
            sessions.add(Session(conn, sessions.user(f"u{i}"), "s", ()))
    return list(sessions.users.values())


def owned_by(node: str, ring: RingView) -> User:
    return next(u for u in users(500) if ring.ring.owner(u.uid) == node)


BOTH = view({ME: 64, "n2": 64})


def test_the_owner_keeps_its_user_and_another_gives_it_up() -> None:
    assert new_home(owned_by(ME, BOTH), BOTH, me=ME, draining=False) is None
    assert new_home(owned_by("n2", BOTH), BOTH, me=ME, draining=False) == BOTH.member("n2")


def test_a_node_that_the_ring_lost_keeps_its_healthy_sessions() -> None:
    without = view({"n2": 64})
    assert new_home(users(1)[0], without, me=ME, draining=False) is None
    assert new_home(users(1)[0], without, me=ME, draining=True) == without.member("n2")


def test_a_node_that_is_only_joining_again_keeps_its_sessions() -> None:
    again = view({ME: 64, "n2": 64}, n1=State.JOINING)
    assert new_home(users(1)[0], again, me=ME, draining=False) is None


def test_an_empty_ring_moves_nobody() -> None:
    assert new_home(users(1)[0], view({}), me=ME, draining=True) is None
    assert new_home(users(1)[0], None, me=ME, draining=False) is None


def test_one_placed_for_an_owner_that_was_down_stays() -> None:
    user = owned_by("n2", BOTH)
    user.away = "n2"
    assert new_home(user, BOTH, me=ME, draining=False) is None
    assert new_home(user, BOTH, me=ME, draining=True) == BOTH.member("n2")
    three = view({ME: 64, "n3": 64})
    user = owned_by("n3", three)
    user.away = "n2"
    assert new_home(user, three, me=ME, draining=False) == three.member("n3")


def test_joined_tells_a_join_from_a_leave() -> None:
    one, two = view({ME: 64}), view({ME: 64, "n2": 64})
    assert joined(Change(one, two))
    assert not joined(Change(two, one))
    assert joined(Change(view({ME: 64, "n2": 32}), two))
    assert not joined(Change(two, view({ME: 64, "n2": 32})))


def test_moves_are_paced_by_share_and_by_least() -> None:
    plan = Plan(share=0.05, least=50)
    plan.add(users(10_000))
    moved = sum(len(plan.due(now / 10, 10_000)) for now in range(11))
    assert 500 <= moved <= 620
    small = Plan(share=0.05, least=50)
    small.add(users(200))
    assert 50 <= sum(len(small.due(now / 10, 200)) for now in range(11)) <= 62


def test_a_user_with_many_sessions_moves_in_one_go() -> None:
    plan = Plan(share=0.05, least=50)
    plan.add(users(3, sessions_each=40))
    assert len(plan.due(0.0, 120)) == 1
    assert plan.due(0.01, 120) == []
    assert len(plan.due(1.0, 120)) == 1


def test_one_who_is_to_stay_again_is_not_due() -> None:
    plan = Plan(share=1, least=50)
    both = users(2)
    assert plan.add(both) == 2
    plan.drop(both[0])
    plan.drop(both[0])
    assert plan.due(0.0, 2) == [(both[1], False)]
    assert len(plan) == 0


def test_planned_twice_is_moved_once() -> None:
    plan = Plan(share=1, least=50)
    both = users(2)
    plan.add(both)
    assert plan.add(both, anyway=True) == 0
    assert plan.due(0.0, 2) == [(both[0], True), (both[1], True)]


def test_the_breaker_opens_when_the_ring_outruns_the_moves() -> None:
    breaker = Breaker()
    for now in (0.0, 2.0, 4.0):
        assert not breaker.is_open(now)
        breaker.changed(now, unfinished=True)
    assert breaker.is_open(4.0)
    breaker.changed(5.0, unfinished=True)
    assert breaker.is_open(5.0 + CALM_S - 0.1)
    assert not breaker.is_open(5.0 + CALM_S)


def test_slow_or_finished_changes_leave_the_breaker_closed() -> None:
    slow, finished = Breaker(), Breaker()
    for n in range(6):
        slow.changed(n * 6.0, unfinished=True)
        finished.changed(n * 1.0, unfinished=False)
    assert not slow.is_open(30.0)
    assert not finished.is_open(5.0)


def test_an_open_breaker_stops_moves_but_not_a_drain() -> None:
    plan = Plan(share=1, least=50)
    plan.add(users(1))
    for _ in range(3):
        plan.breaker.changed(1.0, unfinished=True)
    assert plan.due(1.0, 1) == []
    assert len(plan.due(1.0, 1, draining=True)) == 1
