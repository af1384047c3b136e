"""Short ways to say what the tests of the message log do."""

from __future__ import annotations

import json
from typing import Any

from ringway.core.errors import Unavailable
from ringway.core.frames import Position
from ringway.store.log import Append, Appended, Entries, MessageLog


def message(number: object, ch: str = "u:bob", sender: str = "alice", notify: str | None = None) -> Append:
    """The append whose message id and body are `number`."""
    return Append(ch, sender, str(number), json.dumps(str(number)).encode(), notify)


def append(log: MessageLog, *numbers: object, ch: str = "u:bob") -> list[Appended]:
    """Append these, in this order; fails the test if one is Unavailable."""
    return all_done(log.append_many([message(number, ch) for number in numbers]))


def all_done(results: list[Appended | Unavailable]) -> list[Appended]:
    done = [result for result in results if isinstance(result, Appended)]
    assert len(done) == len(results), results
    return done


def at(appended: Appended) -> Position:
    return Position(appended.gen, appended.seq)


def ids(entries: Entries) -> list[str]:
    return [frame["id"] for frame in frames(entries)]


def frames(entries: Entries) -> list[dict[str, Any]]:
    return [json.loads(frame) for _seq, frame in entries.frames]
