"""Who is connected, and where."""

from __future__ import annotations

from typing import Any

import pytest

from ringway.store.keys import Keys
from ringway.store.presence import Presence, PresenceReader
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


def test_a_node_that_crashed_leaves_no_ghosts(client: Any, keys: Keys, reader: PresenceReader) -> None:
    Presence(client, keys, "n1", "boot", ttl_s=0.3).add(["alice"])
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
    presence = Presence(client, keys, "n1", "boot", ttl_s=60)
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
    now = [1000.0]
    Presence(client, keys, "n1", "old", clock=lambda: now[0]).add(["alice"])
    now[0] += 4000.0
    Presence(client, keys, "n2", "new", clock=lambda: now[0]).renew()
    assert client.zrange(keys.presence_index, 0, -1) == [b"n2 new"]
