"""Who is connected, and where."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ringway.store.keys import Keys
from ringway.store.presence import LEASE_S, RETURN_S, Presence, PresenceReader
from tests.harness.waiting import wait_until


@pytest.fixture
def reader(client: Any, keys: Keys) -> PresenceReader:
    return PresenceReader(client, keys)


def test_users_are_found_on_their_nodes(client: Any, keys: Keys, reader: PresenceReader) -> None:
    one, two = (Presence(client, keys, node, "boot") for node in ("n1", "n2"))
    one.add(["alice", "用户7"])
    two.add(["bob"])
    assert reader.where(["alice", "bob", "用户7", "nobody"]) == {
        "alice": "n1", "bob": "n2", "用户7": "n1", "nobody": None,
    }  # fmt: skip
    assert reader.count() == 3
    one.remove(["alice"])
    assert reader.where(["alice"]) == {"alice": None}
    two.close()
    assert (reader.where(["bob"]), reader.count()) == ({"bob": None}, 1)


def test_nobody_is_anywhere_before_there_is_a_node(reader: PresenceReader) -> None:
    assert (reader.where(["alice"]), reader.where([]), reader.count()) == ({"alice": None}, {}, 0)


def test_a_node_that_crashed_leaves_no_ghosts(client: Any, keys: Keys) -> None:
    reader = PresenceReader(client, keys, lease_s=0.3)
    Presence(client, keys, "n1", "boot", lease_s=0.3).add(["alice"])
    assert reader.where(["alice"]) == {"alice": "n1"}
    wait_until(lambda: reader.where(["alice"]) == {"alice": None}, 5.0, "the crashed node's users are gone")
    assert reader.count() == 0


def test_a_new_boot_inherits_nobody(client: Any, keys: Keys, reader: PresenceReader) -> None:
    Presence(client, keys, "n1", "first").add(["alice"])
    second = Presence(client, keys, "n1", "second")
    second.renew()
    Presence(client, keys, "n1", "first").close()
    assert reader.where(["alice"]) == {"alice": None}


def test_renewing_keeps_the_set_alive(client: Any, keys: Keys, reader: PresenceReader) -> None:
    presence = Presence(client, keys, "n1", "boot", keep_s=60)
    presence.add(["alice"])
    client.pexpire(keys.presence("n1", "boot"), 1000)
    presence.renew()
    assert client.pttl(keys.presence("n1", "boot")) > 50_000


def test_renewing_puts_right_what_redis_lost_or_missed(client: Any, keys: Keys, reader: PresenceReader) -> None:
    presence = Presence(client, keys, "n1", "boot")
    presence.add(f"u{number}" for number in range(2500))
    client.delete(keys.presence("n1", "boot"), keys.presence_index)
    presence.renew()
    assert reader.count() == len(presence) == 2500
    client.sadd(keys.presence("n1", "boot"), "ghost")
    presence.renew()
    assert reader.where(["ghost", "u7"]) == {"ghost": None, "u7": "n1"}


def test_the_index_forgets_boots_of_long_ago(client: Any, keys: Keys) -> None:
    Presence(client, keys, "n1", "old").add(["alice"])
    client.zadd(keys.presence_index, {"n1 old": 1000.0})
    Presence(client, keys, "n2", "new").renew()
    assert client.zrange(keys.presence_index, 0, -1) == [b"n2 new"]


def dies(client: Any, keys: Keys, node: str) -> None:
    """Its last sign of life was long ago."""
    client.zadd(keys.presence_index, {f"{node} boot": time.time() - LEASE_S - RETURN_S - 1.0})


def test_who_is_new_and_who_is_gone_is_said_once(client: Any, keys: Keys) -> None:
    one, two = (Presence(client, keys, node, "boot") for node in ("n1", "n2"))
    assert one.add(["alice", "bob"], ask=True) == ["alice", "bob"]
    assert two.add(["alice", "eve"], ask=True) == ["eve"]
    assert one.add(["alice"], ask=True) == []
    assert one.remove(["alice", "bob"], ask=True) == ["bob"]
    assert two.remove(["alice", "nobody"], ask=True) == ["alice"]
    assert (one.reap(), two.reap()) == (None, None)


def test_the_users_of_a_dead_boot_go_offline_once_unless_they_are_back(client: Any, keys: Keys) -> None:
    dead, one, two = (Presence(client, keys, node, "boot") for node in ("n1", "n2", "n3"))
    dead.add(f"u{number}" for number in range(600))
    dies(client, keys, "n1")
    assert one.add(["u1"], ask=True) == []  # back before anybody said that it had gone
    assert two.add(["u2"]) == []
    assert two.remove(["u2"], ask=True) == []  # and gone again: the dead boot still has it
    told: list[str] = []
    for reaper in (one, two, one, two, one, two):
        told += reaper.reap() or []
    assert sorted(told) == sorted(f"u{number}" for number in range(600) if number != 1)


def test_a_boot_that_was_taken_for_dead_is_told(client: Any, keys: Keys) -> None:
    frozen, other = (Presence(client, keys, node, "boot") for node in ("n1", "n2"))
    frozen.add(["alice", "bob"])
    dies(client, keys, "n1")
    assert sorted(other.reap() or []) == ["alice", "bob"]
    assert not frozen.renew()
    assert frozen.add(["alice", "bob"], ask=True) == ["alice", "bob"]
    assert frozen.renew()
    assert len(frozen) == 2


def test_a_node_that_stops_is_dead_at_once_and_its_users_have_a_while(
    client: Any, keys: Keys, reader: PresenceReader
) -> None:
    one, two = (Presence(client, keys, node, "boot", return_s=0.5) for node in ("n1", "n2"))
    one.add(["alice", "bob"])
    one.close()
    assert reader.where(["alice"]) == {"alice": None}
    assert two.reap() is None
    two.add(["bob"])
    assert wait_until(two.reap, 5.0, "the time is over") == ["alice"]
