"""RFC 6455's rules for frames, one by one, by the reader alone. Numbers like 5.15 are Autobahn's cases that a rule is
like; the cases themselves, all of them, are in test_autobahn.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringway.core.errors import InvalidInput
from ringway.ws_server import wire
from ringway.ws_server.wire import (
    Fault,
    Message,
    Reader,
    encode_binary,
    encode_close,
    encode_own_close,
    encode_ping,
    encode_pong,
    encode_text,
    parse_close,
)
from tests.ws_server.autobahn_utf8 import HELLO, KOSME, SEQUENCES, is_valid
from tests.ws_server.both import TAKERS
from tests.ws_server.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

LIMIT = 65536


@pytest.fixture(params=TAKERS, autouse=True)
def _each_take(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled common case, and the one in Python."""
    monkeypatch.setattr(wire, "take", request.param)


def read(stream: bytes, step: int | None = None, limit: int = LIMIT) -> tuple[list[Message], Fault | None]:
    """Feed a stream whole, or in pieces of `step` bytes."""
    reader = Reader(limit)
    messages: list[Message] = []
    step = step or max(1, len(stream))
    for start in range(0, len(stream), step):
        if not reader.ended:
            messages += reader.feed(stream[start : start + step])
    return messages, reader.fault


def fault_code(stream: bytes, step: int | None = None) -> int | None:
    fault = read(stream, step)[1]
    return None if fault is None else fault.code


STEPS = [pytest.param(step, id=f"by {step or 'all'}") for step in (None, 1, 3)]
each_split = pytest.mark.parametrize("step", STEPS)


# -- 1: sizes, text and binary


@each_split
@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65535, 65536], ids="1.{}".format)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])  # 1.1.1-1.1.7, 1.2.1-1.2.7
def test_every_length_encoding_is_read(opcode: int, size: int, step: int | None) -> None:
    assert read(frame(opcode, b"*" * size), step and 997) == ([(opcode, b"*" * size)], None)


def test_1_1_8_and_1_2_8_a_message_arrives_however_it_is_cut() -> None:
    stream = frame(TEXT, b"*" * 65536) + frame(BINARY, b"\xfe" * 65536)
    assert read(stream, 997) == ([(TEXT, b"*" * 65536), (BINARY, b"\xfe" * 65536)], None)


def test_the_example_of_section_5_7() -> None:
    assert read(bytes.fromhex("818537fa213d7f9f4d5158")) == ([(TEXT, b"Hello")], None)


@pytest.mark.parametrize(("size", "width"), [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)])
def test_a_length_that_is_not_in_its_shortest_form_is_refused(size: int, width: int) -> None:
    assert fault_code(frame(BINARY, b"x" * size, width=width)) == 1002


# -- 2: ping and pong


@each_split
@pytest.mark.parametrize(
    "payload",
    [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125],
    ids=["2.1", "2.2", "2.3", "2.4"],
)
def test_a_ping_is_read_with_its_payload(payload: bytes, step: int | None) -> None:
    assert read(frame(PING, payload), step) == ([(PING, payload)], None)


def test_2_5_a_ping_over_125_bytes_is_refused() -> None:
    assert fault_code(frame(PING, b"\xfe" * 126)) == 1002


def test_2_6_a_ping_may_come_byte_by_byte() -> None:
    assert read(frame(PING, b"\xfe" * 125), 1) == ([(PING, b"\xfe" * 125)], None)


@pytest.mark.parametrize("payload", [b"", b"unsolicited"], ids=["2.7", "2.8 2.9"])
def test_an_unsolicited_pong_is_no_fault(payload: bytes) -> None:
    assert read(frame(PONG, payload) + frame(PING, b"x")) == ([(PONG, payload), (PING, b"x")], None)


@each_split  # 2.10, 2.11
def test_ten_pings_are_ten_messages_in_order(step: int | None) -> None:
    stream = b"".join(frame(PING, b"payload %d" % number) for number in range(10))
    assert read(stream, step) == ([(PING, b"payload %d" % number) for number in range(10)], None)


# -- 3: reserved bits


@pytest.mark.parametrize("rsv", range(1, 8), ids="3.{}".format)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_a_reserved_bit_without_an_extension_is_refused(opcode: int, rsv: int) -> None:
    assert fault_code(frame(TEXT, b"before") + frame(opcode, b"", rsv=rsv)) == 1002


def test_3_2_what_came_before_the_reserved_bit_is_delivered() -> None:
    messages, fault = read(frame(TEXT, b"first") + frame(TEXT, b"bad", rsv=2) + frame(PING))
    assert messages == [(TEXT, b"first")]
    assert fault is not None


# -- 4: opcodes


@pytest.mark.parametrize(
    "opcode",
    [3, 4, 5, 6, 7, 11, 12, 13, 14, 15],
    ids=[*(f"4.1.{n}" for n in range(1, 6)), *(f"4.2.{n}" for n in range(1, 6))],
)
@pytest.mark.parametrize("payload", [b"", b"reserved"])
def test_an_unknown_opcode_is_refused(opcode: int, payload: bytes) -> None:
    assert read(frame(TEXT, b"first") + frame(opcode, payload) + frame(PING)) == (
        [(TEXT, b"first")],
        Fault(1002, "unknown opcode"),
    )


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_an_unmasked_frame_is_refused(opcode: int) -> None:
    assert fault_code(frame(opcode, b"", masked=False)) == 1002


# -- 5: fragments


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE], ids=["5.1", "5.2", "close"])
def test_a_control_frame_is_never_fragmented(opcode: int) -> None:
    assert fault_code(frame(opcode, b"frag", fin=False) + frame(CONTINUATION, b"ment")) == 1002


@each_split
@pytest.mark.parametrize("opcode", [TEXT, BINARY])  # 5.3, 5.4, 5.5
def test_two_fragments_are_one_message(opcode: int, step: int | None) -> None:
    stream = frame(opcode, b"frag1", fin=False) + frame(CONTINUATION, b"frag2")
    assert read(stream, step) == ([(opcode, b"frag1frag2")], None)


@each_split  # 5.6, 5.7, 5.8
def test_a_ping_between_fragments_comes_first(step: int | None) -> None:
    stream = frame(TEXT, b"frag1", fin=False) + frame(PING, b"ping") + frame(CONTINUATION, b"frag2")
    assert read(stream, step) == ([(PING, b"ping"), (TEXT, b"frag1frag2")], None)


@pytest.mark.parametrize("fin", [True, False], ids=["5.9 5.10 5.11", "5.12 5.13 5.14"])
def test_a_continuation_of_nothing_is_refused(fin: bool) -> None:
    assert fault_code(frame(CONTINUATION, b"non-continuation", fin=fin) + frame(TEXT, b"Hello")) == 1002


def test_5_15_a_continuation_after_the_last_fragment_is_refused() -> None:
    stream = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION, b"c", fin=False)
    assert read(stream + frame(TEXT, b"d"))[0] == [(TEXT, b"ab")]
    assert fault_code(stream + frame(TEXT, b"d")) == 1002


@pytest.mark.parametrize("fin", [False, True], ids=["5.16", "5.17"])
def test_a_continuation_before_any_text_is_refused(fin: bool) -> None:
    stream = frame(CONTINUATION, b"fragment1", fin=fin) + frame(TEXT, b"fragment2", fin=False)
    assert read(stream)[0] == []
    assert fault_code(stream) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["5.18", "binary"])
def test_a_new_message_inside_another_is_refused(opcode: int) -> None:
    assert fault_code(frame(TEXT, b"fragment1", fin=False) + frame(opcode, b"fragment2")) == 1002


@each_split  # 5.19, 5.20
def test_pings_between_five_fragments(step: int | None) -> None:
    stream = b"".join(
        (
            frame(TEXT, b"1", fin=False),
            frame(CONTINUATION, b"2", fin=False),
            frame(PING, b"first"),
            frame(CONTINUATION, b"3", fin=False),
            frame(CONTINUATION, b"4", fin=False),
            frame(PING, b"second"),
            frame(CONTINUATION, b"5"),
        )
    )
    assert read(stream, step) == ([(PING, b"first"), (PING, b"second"), (TEXT, b"12345")], None)


def test_a_close_may_come_between_fragments() -> None:
    stream = frame(TEXT, b"half", fin=False) + close_frame(1000)
    assert read(stream) == ([(CLOSE, b"\x03\xe8")], None)


def test_fragments_of_nothing_make_an_empty_message() -> None:
    stream = frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"")
    assert read(stream) == ([(TEXT, b"")], None)


# -- 6: UTF-8

TEXTS = {f"{category}.{n}": (is_valid(category, n), text)
         for category, texts in SEQUENCES.items() for n, text in enumerate(texts, 1)}
VALID = {name: text for name, (valid, text) in TEXTS.items() if valid} | {"6.2.1": HELLO}
INVALID = {name: text for name, (valid, text) in TEXTS.items() if not valid} | {
    "6.3.1": KOSME + b"\xed\xa0\x80" + b"edited", "6.4.1": KOSME + b"\xf4\x90\x80\x80" + b"edited"}


@each_split
@pytest.mark.parametrize("name", VALID)
def test_valid_utf8_is_text_whole_and_in_fragments_of_a_byte(name: str, step: int | None) -> None:
    text = VALID[name]
    assert read(frame(TEXT, text), step) == ([(TEXT, text)], None)
    assert read(in_single_bytes(text), step) == ([(TEXT, text)], None)  # 6.2.3, 6.2.4


@pytest.mark.parametrize("name", INVALID)
def test_invalid_utf8_is_refused_whole_and_in_fragments_of_a_byte(name: str) -> None:
    assert fault_code(frame(TEXT, INVALID[name])) == 1007
    assert fault_code(in_single_bytes(INVALID[name])) == 1007  # 6.3.2
    assert fault_code(frame(TEXT, INVALID[name]), 1) == 1007


@pytest.mark.parametrize("name", INVALID)
def test_binary_need_not_be_utf8(name: str) -> None:
    assert read(frame(BINARY, INVALID[name]))[1] is None


@pytest.mark.parametrize("sizes", [(), (0,), (0, 0)], ids=["whole", "two", "three"])
def test_empty_text(sizes: tuple[int, ...]) -> None:
    parts = b"".join(frame(CONTINUATION, b"", fin=at == len(sizes) - 1) for at in range(len(sizes)))
    assert read(frame(TEXT, b"", fin=not sizes) + parts) == ([(TEXT, b"")], None)


@pytest.mark.parametrize("cut", [b"", b"\xf4"], ids=["6.4.1", "6.4.2"])
def test_invalid_text_fails_at_its_fragment_not_at_the_end_of_the_message(cut: bytes) -> None:
    bad = b"\xf4\x90\x80\x80".removeprefix(cut)
    assert fault_code(frame(TEXT, KOSME + cut, fin=False) + frame(CONTINUATION, bad, fin=False)) == 1007


def in_single_bytes(text: bytes) -> bytes:
    return b"".join(fragments(text))


def fragments(text: bytes) -> Iterator[bytes]:
    for at in range(len(text)):
        yield frame(CONTINUATION if at else TEXT, text[at : at + 1], fin=at == len(text) - 1)


# -- 7: close


@each_split
def test_7_1_1_to_7_1_5_nothing_after_a_close_frame_is_looked_at(step: int | None) -> None:
    for after in (frame(TEXT, b"late"), frame(PING), close_frame(1000), b"\xff\xff"):
        assert read(frame(TEXT, b"Hello") + close_frame(1000) + after, step) == (
            [(TEXT, b"Hello"), (CLOSE, b"\x03\xe8")],
            None,
        )


def test_7_1_6_a_close_right_after_a_large_message() -> None:
    messages, fault = read(frame(TEXT, b"*" * 65536) + close_frame(1000), 4096)
    assert [kind for kind, _ in messages] == [TEXT, CLOSE]
    assert fault is None


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        pytest.param(b"", None, id="7.3.1"),
        pytest.param(b"\x03", 1002, id="7.3.2"),
        pytest.param(b"\x03\xe8", None, id="7.3.3"),
        pytest.param(b"\x03\xe8Hello World!", None, id="7.3.4"),
        pytest.param(b"\x03\xe8" + b"*" * 123, None, id="7.3.5"),
        pytest.param(b"\x03\xe8" + b"*" * 124, 1002, id="7.3.6"),
        pytest.param(b"\x03\xe8" + INVALID["6.3.1"], 1007, id="7.5.1"),
    ],
)
def test_the_payload_of_a_close_frame(payload: bytes, fault: int | None) -> None:
    assert fault_code(frame(CLOSE, payload)) == fault


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_7_7_these_close_codes_may_travel(code: int) -> None:
    assert fault_code(close_frame(code)) is None


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_7_9_and_7_13_these_may_not(code: int) -> None:
    assert fault_code(close_frame(code)) == 1002


# -- 9: limits


def test_an_oversized_frame_is_refused_by_its_header_alone() -> None:
    header = frame(BINARY, b"x" * (LIMIT + 1))[:14]
    assert fault_code(header) == 1009


def test_a_length_of_64_bits_is_refused_not_reserved() -> None:
    assert fault_code(b"\x82\xff" + b"\xff" * 8) == 1009


@each_split  # 9.3, 9.4
def test_fragments_count_together(step: int | None) -> None:
    half = b"x" * 600
    stream = frame(BINARY, half, fin=False) + frame(CONTINUATION, half)
    assert read(stream, step, limit=1200) == ([(BINARY, half + half)], None)
    assert read(stream, step, limit=1199)[1] == Fault(1009, "message over 1199 bytes")


@pytest.mark.parametrize("limit", [0, 1, 100, 125, 126, 127])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_limit_of_any_size_holds(opcode: int, limit: int) -> None:
    assert read(frame(opcode, b"x" * limit), limit=limit) == ([(opcode, b"x" * limit)], None)
    assert read(frame(opcode, b"x" * (limit + 1)), limit=limit) == ([], Fault(1009, f"message over {limit} bytes"))


def test_pings_do_not_count_towards_the_message() -> None:
    stream = frame(BINARY, b"x" * 90, fin=False) + frame(PING, b"y" * 100) + frame(CONTINUATION, b"x" * 10)
    assert read(stream, limit=100) == ([(PING, b"y" * 100), (BINARY, b"x" * 100)], None)


def test_a_fragmented_message_does_not_pile_up_empty_fragments() -> None:
    reader = Reader()
    reader.feed(frame(TEXT, b"x", fin=False))
    for _ in range(1000):
        assert reader.feed(frame(CONTINUATION, b"", fin=False)) == []
    assert reader.feed(frame(CONTINUATION, b"y")) == [(TEXT, b"xy")]


def test_every_split_of_a_mixed_stream_gives_the_same() -> None:
    stream = (
        frame(TEXT, "ä".encode()) + frame(BINARY, b"x" * 130) + frame(PING, b"p") + frame(TEXT, b"") + close_frame()
    )
    whole = read(stream)
    for cut in range(1, len(stream)):
        reader = Reader()
        messages = reader.feed(stream[:cut])
        assert [*messages, *reader.feed(stream[cut:])] == whole[0]


# -- encoding


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_encoded_messages_have_the_shortest_length_and_no_mask(size: int) -> None:
    payload = b"x" * size
    assert encode_text(payload) == frame(TEXT, payload, masked=False)
    assert encode_binary(payload) == frame(BINARY, payload, masked=False)


def test_encoded_control_frames() -> None:
    assert encode_ping() == b"\x89\x00"
    assert encode_ping(b"x") == b"\x89\x01x"
    assert encode_pong(b"x") == b"\x8a\x01x"
    assert encode_close(1000, "bye") == b"\x88\x05\x03\xe8bye"
    assert encode_close(1005) == b"\x88\x00"


def test_a_reason_that_is_no_unicode_text_is_sent_with_replacements() -> None:
    assert encode_close(4000, "a\ud800b") == b"\x88\x05\x0f\xa0a?b"


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
def test_a_close_of_our_own_needs_a_code_that_may_travel(code: int) -> None:
    with pytest.raises(InvalidInput, match=rf"^code={code}: .*3000 to 4999.*; use 1000, or 4000 to 4999") as caught:
        encode_own_close(code, "bye")
    assert (caught.value.field, caught.value.value) == ("code", code)
    assert encode_own_close(3000, "bye") == encode_close(3000, "bye")


def test_a_long_close_reason_is_cut_between_characters() -> None:
    encoded = encode_close(4000, "ü" * 100)
    assert len(encoded) == 2 + 124
    assert parse_close(encoded[2:]) == (4000, "ü" * 61)
