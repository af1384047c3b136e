"""Who belongs to a group for good, and what happens when the client joins it as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from ringway.store.client import connect
from ringway.store.log import MessageLog
from ringway.store.memberships import Memberships
from ringway.store.retained import Append
from tests.harness import redises, zookeepers
from tests.harness.delays import DelayProxy

from .nodes import Client, Nodes, until

LAG_S = 0.2


class Team:
    """A group with three messages; `ann` belongs to it and has read none of them."""

    def __init__(self, nodes: Nodes, redis_url: str) -> None:
        self.nodes, self.group, self.ann = nodes, "team", "ann"
        self._channel = nodes.keys.group_channel(self.group)
        self.client = connect(redis_url)
        self.log = MessageLog(self.client, nodes.keys)
        self.members = Memberships(self.log)
        self.members.add(self.group, self.ann)
        self.publish(1, 2, 3)

    def publish(self, *bodies: int) -> None:
        ch = f"g:{self.group}"
        self.log.append_many([Append(ch, "app", f"m{n}", orjson.dumps(n), self._channel) for n in bodies])


@pytest.fixture
def slow_redis(redis_server: redises.Provider) -> Iterator[DelayProxy]:
    with DelayProxy(redis_server.url.split("/")[2]) as proxy:
        yield proxy


@pytest.fixture
def team(zookeeper_server: zookeepers.Provider, slow_redis: DelayProxy, redis_url: str) -> Iterator[Team]:
    """There before its node, which so has no news of it on the way.

    The node has a connect handler, so that what a client says at once comes before its welcome.
    """
    env = {"RINGWAY_APP": "tests.ws_server.chat:doorman"}
    with Nodes(zookeeper_server.address, f"redis://{slow_redis.address}/0", env=env) as nodes:
        team = Team(nodes, redis_url)
        nodes.start("g1")
        nodes.ring("g1")
        yield team
        team.client.close()


def heard(client: Client, seconds: float = 0.3) -> tuple[list[tuple[int, int]], list[Any]]:
    """seq and unread of the answers to joins, and the messages, until nothing comes any more."""
    frames = [*client.frames, *client.quiet(seconds)]
    answers = [(frame["seq"], frame["unread"]) for frame in frames if frame["t"] == "joined"]
    return answers, [frame["body"] for frame in frames if frame["t"] == "msg"]


def test_a_member_who_joins_as_well_gets_the_unread_messages_once(team: Team) -> None:
    """As an SDK does that was given the group: a join without a position, right after the welcome."""
    client = team.nodes.join(team.ann)
    client.send(t="join", group=team.group)
    assert client.wait("joined", seq=3)["unread"] == 3
    assert heard(client)[1] == [1, 2, 3]


@pytest.mark.parametrize("member", [True, False])
def test_a_join_that_comes_before_the_memberships_are_known_waits_for_them(
    team: Team, slow_redis: DelayProxy, member: bool
) -> None:
    """A member begins at the read cursor; anybody else with what is said from then on."""
    slow_redis.delay_s = LAG_S
    client = team.nodes.connect(team.ann if member else "stranger")
    client.send(t="join", group=team.group)
    client.send(t="publish", id="own", group=team.group, body=4)
    client.wait("ok")
    assert client.frames[0]["t"] == "welcome"
    assert heard(client, 2 * LAG_S) == (([(3, 3)], [1, 2, 3, 4]) if member else ([(3, 0)], [4]))


@pytest.mark.parametrize("lag_s", [0.0, LAG_S])
def test_a_join_with_a_position_goes_on_from_there_however_the_memberships_come(
    team: Team, slow_redis: DelayProxy, lag_s: float
) -> None:
    gen = team.log.read(f"g:{team.group}", None).gen
    slow_redis.delay_s = lag_s
    client = team.nodes.connect(team.ann)
    client.send(t="join", group=team.group, **{"from": {"gen": gen, "seq": 2}})
    client.wait("joined", unread=1)
    assert heard(client, 2 * LAG_S)[1][-1] == 3


def test_a_second_join_without_a_position_says_where_the_session_is(team: Team) -> None:
    client = team.nodes.join("bob")
    client.send(t="join", group=team.group)
    assert client.wait("joined")["seq"] == 3
    team.publish(4)
    assert client.bodies(1) == [4]
    client.send(t="join", group=team.group)
    answer = client.wait("joined")
    assert (answer["seq"], answer["unread"], answer["recovered"]) == (4, 0, True)
    team.publish(5)
    assert client.bodies(1) == [5]


def test_who_leaves_before_the_memberships_are_known_is_not_brought_back(team: Team, slow_redis: DelayProxy) -> None:
    slow_redis.delay_s = LAG_S
    client = team.nodes.connect(team.ann)
    client.send(t="join", group=team.group)
    client.send(t="leave", group=team.group)
    client.wait("left")
    client.wait("welcome")
    assert heard(client, 8 * LAG_S) == ([], [])  # several round trips long


def test_the_application_has_a_session_join_when_it_is_welcomed(team: Team) -> None:
    team.nodes.join("guest-before").wait("joined")  # so that the next one's join takes no time at all
    guest = team.nodes.connect("guest")
    assert [guest.read()["t"], guest.read()["t"]] == ["welcome", "joined"]
    guest.send(t="publish", id="1", group="lobby", body="hello")
    assert guest.bodies(1) == ["hello"]


def test_nothing_stays_in_a_group_of_a_session_that_was_refused_or_went_before_its_welcome(team: Team) -> None:
    node = team.nodes.nodes["g1"]
    assert team.nodes.connect("guest-banned").closed() == 4003
    team.nodes.connect("guest-in-a-hurry").socket.socket.close()
    team.nodes.join("guest").close()
    until(lambda: node.metric("sessions") == node.metric("connections") == 0, "all are gone")
    assert node.metric("groups") == 0
