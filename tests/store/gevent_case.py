"""Run in a process of its own by test_gevent.py: a monkey-patched node that uses the store."""

# ruff: noqa: E402 - monkey-patching comes before every other import
from gevent import monkey

monkey.patch_all()

import sys
import time

import gevent

from ringway.core.errors import Unavailable
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from tests.harness.logs import append, ids, message
from tests.harness.redises import RealRedis


def main() -> None:
    with RealRedis(durable=True) as server:
        log = MessageLog(connect(server.url, timeout_s=1.0), Keys())
        gevent.joinall([gevent.spawn(append, log, *range(i, i + 20)) for i in range(0, 200, 20)], raise_error=True)
        assert sorted(map(int, ids(log.read("u:bob", None)))) == list(range(200))
        longest = longest_stall_while_frozen(server, log)
        assert longest < 0.5, f"the loop stood still for {longest:.2f} s"
        server.restart()
        gevent.joinall([gevent.spawn(append, log, i, ch="u:carol") for i in range(20)], raise_error=True)
        assert len(ids(log.read("u:carol", None))) == 20
    sys.stdout.write("done\n")


def longest_stall_while_frozen(server: RealRedis, log: MessageLog) -> float:
    stalls: list[float] = []

    def tick() -> None:
        last = time.monotonic()
        while True:
            gevent.sleep(0.01)
            now = time.monotonic()
            stalls.append(now - last)
            last = now

    ticking = gevent.spawn(tick)
    server.freeze()
    try:
        results = log.append_many([message("late")])
    finally:
        server.thaw()
        ticking.kill()
    assert isinstance(results[0], Unavailable), results
    return max(stalls)


if __name__ == "__main__":
    main()
