"""What lookups keep in Redis of nodes that are passed over."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ringway.lookup_service.marks import RedisMarks
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.softdown import AwayRecords
from tests.harness import redises

CROWD = 200


def test_the_placements_of_a_crowd_are_written_in_few_batches(
    own_redis: redises.RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    put = AwayRecords.put

    def counted(records: AwayRecords, placements: Mapping[str, str]) -> None:
        batches.append(len(placements))
        put(records, placements)

    monkeypatch.setattr(AwayRecords, "put", counted)
    client = connect(own_redis.url)
    marks = RedisMarks(client, Keys(), dropped=lambda count: pytest.fail(f"{count} dropped"))
    marks.start()
    uids = [f"u{number}" for number in range(CROWD)]
    for uid in uids:
        marks.away(uid, "n2")
        client.ping()  # a client's time between two requests
    marks.stop()
    assert AwayRecords(client, Keys()).of(uids) == dict.fromkeys(uids, "n2")
    assert len(batches) < CROWD / 5
    client.close()
