"""Who was away gets everything once and in order, each device from its own place; or is told what is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ringway.client_sdk import Client, Gap, Message
from tests.harness import redises, web, zookeepers
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.slow

CAP = 600
ABSENT = 500


@pytest.fixture(scope="module")
def cluster(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Cluster]:
    env = {"RINGWAY_LOG_CAP": str(CAP)}
    with Cluster(zookeeper=zookeeper_server.address, redis=redis_server.url, nodes=2, node_env=env) as running:
        yield running


class Device:
    """A device of a user, with a place of its own that outlives the process."""

    def __init__(self, cluster: Cluster, uid: str) -> None:
        self._cluster, self._uid = cluster, uid
        self.got: list[Message] = []
        self.gaps: list[Gap] = []
        self.positions: Mapping[str, str] = {}

    def load(self) -> Mapping[str, str]:
        return self.positions

    def save(self, positions: Mapping[str, str]) -> None:
        self.positions = dict(positions)

    def online(self) -> Client:
        return Client(self._cluster.url, self._uid, positions=self, on_message=self.got.append,
                      on_gap=self.gaps.append)

    @property
    def bodies(self) -> list[Any]:
        return [message.body for message in self.got]


def send(cluster: Cluster, to: str, bodies: range) -> None:
    with Client(cluster.url, f"sender-of-{to}") as sender:
        for receipt in [sender.send(to, body) for body in bodies]:
            receipt.result(30)


def unread(cluster: Cluster, uid: str) -> int:
    return int(web.get(f"{cluster.url}/unread", params={"uid": uid}).json()["unread"])


def test_500_messages_to_an_absent_user_come_all_once_and_in_order(cluster: Cluster) -> None:
    send(cluster, "absent", range(ABSENT))
    assert unread(cluster, "absent") == ABSENT
    device = Device(cluster, "absent")
    with device.online():
        wait_until(lambda: len(device.got) >= ABSENT)
        wait_until(lambda: unread(cluster, "absent") == 0)
    assert device.bodies == list(range(ABSENT))
    assert not device.gaps


def test_two_devices_have_places_of_their_own(cluster: Cluster) -> None:
    phone, laptop = Device(cluster, "both"), Device(cluster, "both")
    with phone.online(), laptop.online():
        send(cluster, "both", range(10))
        wait_until(lambda: len(phone.got) == len(laptop.got) == 10)
    send(cluster, "both", range(10, 15))
    assert unread(cluster, "both") == 5
    with phone.online():
        wait_until(lambda: len(phone.got) == 15)
        wait_until(lambda: unread(cluster, "both") == 0)
    with laptop.online():  # read on the phone, and still not had here
        wait_until(lambda: len(laptop.got) == 15)
    assert phone.bodies == laptop.bodies == list(range(15))


def test_a_log_that_no_longer_reaches_back_is_said_before_what_is_left_of_it(cluster: Cluster) -> None:
    device = Device(cluster, "capped")
    with device.online():
        send(cluster, "capped", range(3))
        wait_until(lambda: len(device.got) == 3)
    for start in (3, 3 + CAP):
        send(cluster, "capped", range(start, start + CAP))
    with device.online():
        wait_until(lambda: device.bodies[-1] == 2 + 2 * CAP)
    (gap,) = device.gaps
    assert gap.had is not None
    assert gap.had.seq == 3
    kept = device.got[3:]
    assert (kept[0].seq, kept[0].body) == (gap.oldest, gap.oldest - 1)
    assert [message.body for message in kept] == list(range(gap.oldest - 1, 3 + 2 * CAP))
    assert CAP <= len(kept) < 2 * CAP
