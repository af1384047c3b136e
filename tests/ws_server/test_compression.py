"""`--compress` on a real node: what it sends to clients that negotiate permessage-deflate, and to those that do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import DATA_OPCODES, Frame

from ringway.ws_server.deflate import WORTH_BYTES
from tests.harness import redises, zookeepers

from .nodes import Client, Nodes

LARGE, SMALL = "shrink " * 1000, "short"


@pytest.fixture(scope="module")
def nodes(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Nodes]:
    env = {"RINGWAY_COMPRESS": "1"}
    with Nodes(zookeeper_server.address, redis_server.url, "n1", env=env) as running:
        yield running


Seen = Callable[[Client], list[tuple[bool, int]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """RSV1 and size on the wire of each data frame that a client with compression got."""
    by_extension: dict[Any, list[tuple[bool, int]]] = defaultdict(list)
    decode = PerMessageDeflate.decode

    def look(extension: PerMessageDeflate, frame: Frame, **options: Any) -> Frame:
        if frame.opcode in DATA_OPCODES:
            by_extension[extension].append((frame.rsv1, len(frame.data)))
        return decode(extension, frame, **options)

    monkeypatch.setattr(PerMessageDeflate, "decode", look)
    return lambda client: by_extension[client.socket.protocol.extensions[0]]


def test_a_large_message_comes_compressed_and_a_small_one_as_it_is(nodes: Nodes, seen: Seen) -> None:
    client = nodes.join("compress-alice")
    for body in (LARGE, SMALL):
        client.send(t="send", id=body[:2], to=["compress-alice"], body=body, volatile=True)
    assert client.bodies(2) == [LARGE, SMALL]
    large, small = [frame for frame in seen(client) if frame[1] > 70][1:]  # after the welcome; the `ok`s are shorter
    assert large[0]
    assert large[1] < len(LARGE) // 10
    assert not small[0]
    assert small[1] < WORTH_BYTES


def test_a_group_of_clients_with_and_without_compression_gets_the_same(nodes: Nodes, seen: Seen) -> None:
    members = [nodes.join(f"compress-{n}", compression=how) for n, how in enumerate(("deflate", None, "deflate", None))]
    for member in members:
        member.send(t="join", group="mixed")
        member.wait("joined")
    assert [member.socket.protocol.extensions for member in members[1::2]] == [[], []]
    for n in range(3):
        members[0].send(t="publish", id=f"{n}", group="mixed", body=[n, LARGE])
    assert [member.bodies(3) for member in members] == [[[n, LARGE] for n in range(3)]] * 4
    assert all(sum(rsv1 for rsv1, _ in seen(member)) >= 3 for member in members[::2])


def test_history_comes_compressed_too(nodes: Nodes, seen: Seen) -> None:
    sender = nodes.join("compress-sender")
    sender.send(t="send", id="1", to="compress-later", body=LARGE)
    sender.wait("ok")
    client = nodes.connect("compress-later")
    assert client.bodies(1) == [LARGE]
    assert seen(client)[-1][0]
