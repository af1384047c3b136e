from __future__ import annotations

import threading
import time

from ringway.core.errors import Unavailable
from ringway.lookup_service.refresh import Refresher


def test_it_asks_every_source_even_when_one_fails() -> None:
    asked: list[str] = []

    def zookeeper(budget_s: float) -> None:
        asked.append("zookeeper")
        raise Unavailable("ZooKeeper")

    def broken(budget_s: float) -> None:
        asked.append("broken")
        raise KeyError("bug")

    Refresher([zookeeper, broken, lambda budget_s: asked.append("redis")]).refresh()
    assert asked == ["zookeeper", "broken", "redis"]


def test_many_requests_share_one_refresh() -> None:
    asked: list[float] = []
    started, go = threading.Event(), threading.Event()

    def source(budget_s: float) -> None:
        asked.append(budget_s)
        started.set()
        go.wait(5)

    refresher = Refresher([source], budget_s=5.0)
    threads = [threading.Thread(target=refresher.refresh) for _ in range(20)]
    for thread in threads:
        thread.start()
    started.wait(5)
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(asked) == 1
    assert 0 < asked[0] <= 5.0


def test_nobody_waits_longer_than_the_budget() -> None:
    go = threading.Event()
    refresher = Refresher([lambda budget_s: go.wait(5)], budget_s=0.05)
    began = time.monotonic()
    refresher.refresh()
    assert time.monotonic() - began < 1.0
    go.set()


def test_after_a_refresh_there_is_rest_and_then_another() -> None:
    asked: list[float] = []
    refresher = Refresher([asked.append], rest_s=3600)
    refresher.refresh()
    refresher.refresh()
    assert len(asked) == 1
    restless = Refresher([asked.append], rest_s=0)
    restless.refresh()
    restless.refresh()
    assert len(asked) == 3
