"""Run in a process of its own by test_gevent.py: a monkey-patched node that uses the store."""

# ruff: noqa: E402 - monkey-patching comes before every other import
from gevent import monkey

monkey.patch_all()

import sys

import gevent

from ringway.core.errors import Unavailable
from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from tests.harness.logs import append, ids, message
from tests.harness.redises import RealRedis

TIMEOUT_S = 1.0
ENOUGH = 10  # of a hundred


def main() -> None:
    with RealRedis(durable=True) as server:
        log = MessageLog(connect(server.url, timeout_s=TIMEOUT_S), Keys())
        gevent.joinall([gevent.spawn(append, log, *range(i, i + 20)) for i in range(0, 200, 20)], raise_error=True)
        assert sorted(map(int, ids(log.read("u:bob", None)))) == list(range(200))
        turns = turns_while_frozen(server, log)
        assert turns > ENOUGH, f"the loop had {turns} turns while a call waited for {TIMEOUT_S:g} s"
        server.restart()
        gevent.joinall([gevent.spawn(append, log, i, ch="u:carol") for i in range(20)], raise_error=True)
        assert len(ids(log.read("u:carol", None))) == 20
    sys.stdout.write("done\n")


def turns_while_frozen(server: RealRedis, log: MessageLog) -> int:
    """How often another greenlet ran while a call waited for its time-out; hardly ever where it blocks the loop."""
    turns = 0

    def tick() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    ticking = gevent.spawn(tick)
    server.freeze()
    try:
        results = log.append_many([message("late")])
    finally:
        server.thaw()
        ticking.kill()
    assert isinstance(results[0], Unavailable), results
    return turns


if __name__ == "__main__":
    main()
