"""Where a node looks for users who are not on it."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.softdown import AwayRecords
from ringway.ws_server import away
from ringway.ws_server.away import Away
from ringway.ws_server.redis_link import RedisLink

Published = list[tuple[str, bytes]]


@pytest.fixture
def records(redis_url: str, cluster_name: str) -> Iterator[AwayRecords]:
    client = connect(redis_url)
    yield AwayRecords(client, Keys(cluster_name))
    client.close()


@pytest.fixture
def looking(redis_url: str, cluster_name: str, records: AwayRecords) -> Iterator[tuple[Away, Published]]:
    published: Published = []
    client, keys = connect(redis_url), Keys(cluster_name)
    link = RedisLink(client.ping)
    looked = Away("n1", records, keys, link, lambda channel, notice: published.append((channel, notice)))
    looked.start()
    yield looked, published
    looked.stop()
    link.stop()
    client.close()


def forwarded(looking: tuple[Away, Published], seconds: float) -> bool:
    """Whether a notice to alice got anywhere within so many seconds of trying, ten times a second."""
    looked, published = looking
    with gevent.Timeout(seconds, False):
        while not published:
            looked.forward("alice", b"notice", besides=())
            gevent.sleep(0.1)
    return bool(published)


def test_a_user_who_was_nowhere_is_looked_for_again_in_a_moment(
    looking: tuple[Away, Published], records: AwayRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not forwarded(looking, 0.5)
    records.put({"alice": "n2"})
    monkeypatch.setattr(away, "KNOWN_S", 60.0)
    assert forwarded(looking, 5.0)


def test_nowhere_is_believed_for_a_while_so_that_absent_users_cost_little(
    looking: tuple[Away, Published], records: AwayRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "NOWHERE_S", 60.0)
    assert not forwarded(looking, 0.5)
    records.put({"alice": "n2"})
    assert not forwarded(looking, 0.5)
