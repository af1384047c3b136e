"""What waits for a full socket."""

from __future__ import annotations

from random import Random

from ringway.ws_server.outbox import CHUNK_BYTES, Outbox


def test_small_chunks_leave_together_and_large_ones_alone() -> None:
    outbox = Outbox()
    large = b"L" * CHUNK_BYTES
    for chunk in (b"a", b"b", b"c", large, b"d"):
        outbox.push(chunk)
    assert outbox.take() == b"abc" + large
    assert outbox.take() == b"d"
    outbox.push(large)
    outbox.push(b"e")
    assert outbox.take() is large
    assert outbox.take() == b"e"
    assert outbox.size == 0


def test_any_socket_gets_all_bytes_in_order() -> None:
    random = Random(1)
    outbox, sent = Outbox(), b""
    pushed = [random.randbytes(random.choice((1, 10, 1000, 70_000))) for _ in range(200)]
    for chunk in pushed:
        outbox.push(chunk)
        if random.random() < 0.5:
            taken = outbox.take()
            count = random.randrange(len(taken) + 1)
            sent += taken[:count]
            if count < len(taken):
                outbox.put_back(memoryview(taken)[count:])
    while outbox.size:
        sent += outbox.take()
    assert sent == b"".join(pushed)


def test_dropping_keeps_what_is_begun() -> None:
    outbox = Outbox()
    for chunk in (b"begun ", b"and joined", b" to it"):
        outbox.push(chunk)
    taken = outbox.take()
    outbox.put_back(memoryview(taken)[3:])
    outbox.push(b"never sent")
    outbox.drop_all_but_head()
    assert outbox.size == len(b"un and joined to it")
    assert bytes(outbox.take()) == b"un and joined to it"
