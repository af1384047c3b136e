from __future__ import annotations

import threading
from typing import Any

import pytest

from ringway.core.members import Version
from ringway.lookup_service import events
from ringway.lookup_service.answers import Refusal
from ringway.lookup_service.events import QUEUED, EventHub


def greeting() -> list[tuple[str, Any]]:
    return [("ring", {"epoch": 1})]


def test_a_listener_gets_the_state_and_then_what_happens() -> None:
    hub = EventHub()
    stream = hub.listen(None, greeting)
    first = next(stream).decode()
    assert first == f'retry: 2000\n\nid: {hub._boot}-0-0.0\nevent: ring\ndata: {{"epoch":1}}\n\n'
    hub.publish("nodes", {"a": "line\nbreak"})
    frame = next(stream)
    assert frame.endswith(b'-1-0.0\nevent: nodes\ndata: {"a":"line\\nbreak"}\n\n')
    assert frame.startswith(b"id: ")


def ids(frames: list[bytes]) -> list[str]:
    return [line[4:] for frame in frames for line in frame.decode().split("\n") if line.startswith("id: ")]


def test_what_was_missed_comes_first() -> None:
    hub = EventHub()
    stream = hub.listen(None, greeting)
    for number in range(5):
        hub.publish("ring", {"n": number})
    seen = ids([next(stream), next(stream), next(stream)])
    assert len(seen) == 3, "the greeting has an id too: from there on nothing is missed"
    again = next(hub.listen(seen[-1], greeting))
    assert [line for line in again.decode().split("\n") if line.startswith("data")] == [
        'data: {"n":2}', 'data: {"n":3}', 'data: {"n":4}',
    ]  # fmt: skip


def rings_of(hub: EventHub, *epochs: int) -> EventHub:
    for epoch in epochs:
        hub.publish_ring(Version(1000, epoch), {"epoch": epoch})
        hub.publish("nodes", {})
    return hub


def epochs(frame: bytes) -> list[str]:
    return [line for line in frame.decode().split("\n") if line.startswith("data")]


def test_at_another_process_a_listener_gets_each_ring_since_its_last() -> None:
    first, second = rings_of(EventHub(), 1, 2), rings_of(EventHub(), 1, 2, 3, 4)
    stream = first.listen(None, greeting)
    next(stream)
    first.publish("nodes", {})
    frame = next(second.listen(ids([next(stream)])[0], greeting))
    assert epochs(frame) == ['data: {"epoch":3}', 'data: {"epoch":4}']
    assert epochs(next(first.listen(ids([frame])[-1], greeting))) == [], "it has no newer ring"


def test_a_process_that_is_younger_than_the_listeners_ring_begins_with_the_state() -> None:
    (last,) = ids([next(rings_of(EventHub(), 1, 2).listen(None, greeting))])
    assert epochs(next(rings_of(EventHub(), 3, 4).listen(last, greeting))) == ['data: {"epoch":1}']


@pytest.mark.parametrize("last", [
    "", "other-1", "other-1-x", "other-1-0.9", "nonsense",
    "{boot}-", "{boot}-999", "{boot}-x", "{boot}-1", "{boot}-1-0.0",
])  # fmt: skip
def test_what_cannot_be_resumed_starts_with_the_state(last: str) -> None:
    hub = EventHub()
    for number in range(events.KEPT + 5):
        hub.publish("ring", {"n": number})
    first = next(hub.listen(last.replace("{boot}", hub._boot), greeting))
    assert b'{"epoch":1}' in first


def test_the_number_of_listeners_is_bounded_and_ends_give_room() -> None:
    hub = EventHub(max_listeners=1)
    counts: list[int] = []
    hub.on_count = counts.append
    stream = hub.listen(None, greeting)
    next(stream)
    with pytest.raises(Refusal) as refused:
        hub.listen(None, greeting)
    assert (refused.value.status, refused.value.code) == (503, "too_many_listeners")
    stream.close()
    never_begun = hub.listen(None, greeting)
    never_begun.close()
    another = hub.listen(None, greeting)
    assert next(another)
    assert counts == [1, 0, 1, 0, 1]


def test_a_listener_that_does_not_read_is_ended() -> None:
    hub = EventHub()
    stream = hub.listen(None, greeting)
    next(stream)
    for _ in range(QUEUED + 1):
        hub.publish("ring", {})
    assert list(stream) == []
    assert hub.count == 0


def test_quiet_streams_get_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    stream = EventHub().listen(None, greeting)
    next(stream)
    assert next(stream).startswith(b":")


def test_close_ends_all_and_lets_nobody_in() -> None:
    hub = EventHub()
    stream = hub.listen(None, greeting)
    next(stream)
    ended: list[list[bytes]] = []
    thread = threading.Thread(target=lambda: ended.append(list(stream)))
    thread.start()
    hub.close()
    thread.join(5)
    assert ended == [[]]
    with pytest.raises(Refusal):
        hub.listen(None, greeting)
