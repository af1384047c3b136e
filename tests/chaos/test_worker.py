"""What the clients of a process meet gets out of it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import orjson

from ringway.chaos.cast import Load
from ringway.chaos.worker import Worker
from ringway.client_sdk import Gap
from ringway.core.frames import Position


def test_a_gap_is_told_with_its_place_and_without() -> None:
    told: list[Any] = []

    async def work() -> None:
        load = asdict(Load(sessions=2, groups=0, processes=1))
        job = {"name": "test", "number": 0, "lookups": ["http://127.0.0.1:9"], "load": load, "token": None}
        worker = Worker(job, lambda events: told.extend(orjson.loads(orjson.dumps(events))))
        client = next(iter(worker.clients))
        for had in (Position("a", 3), None):
            worker._on_gap(client, Gap("u:bob", had, "a", 9))
        await worker.tell_now()

    asyncio.run(work())
    assert [(kind, ch, had, goes_on) for kind, _, ch, had, goes_on, _ in told] == [
        ("gap", "u:bob", ["a", 3], ["a", 9]), ("gap", "u:bob", None, ["a", 9]),
    ]
