"""What travels over pub/sub comes back as it went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringway.core.errors import InvalidInput
from ringway.store.notices import Control, LogNotice, VolatileNotice, decode, encode, forwarded

channels = st.builds("u:{}".format, st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
gens = st.text("0123456789abcdef", min_size=16, max_size=16)
frames = st.binary(max_size=100)
seqs = st.integers(1, 2**53)


@given(st.builds(LogNotice, channels, gens, seqs, frames, st.booleans()))
def test_messages_of_a_log(notice: LogNotice) -> None:
    assert decode(encode(notice)) == notice


@given(st.builds(VolatileNotice, channels, frames, st.booleans()))
def test_volatile_messages(notice: VolatileNotice) -> None:
    assert decode(encode(notice)) == notice


def test_orders() -> None:
    order = Control("close", {"uid": "用户7", "code": 4009})
    assert decode(encode(order)) == order


def test_forwarding_marks_and_changes_nothing_else() -> None:
    for notice in (LogNotice("u:a", "g", 7, b'{"x":"\\t\\n"}'), VolatileNotice("*", b"\t\n\tx")):
        marked = decode(forwarded(encode(notice)))
        assert not isinstance(marked, Control)
        assert (marked.ch, marked.frame, marked.forwarded) == (notice.ch, notice.frame, True)
        assert forwarded(forwarded(encode(notice))) == forwarded(encode(notice))


@pytest.mark.parametrize("payload", [
    b"", b"X\t\tu:a\n{}", b"L\t\tu:a\n{}", b"L\t\tg\tseven\tu:a\n{}", b"V\t\t\xff\n{}", b"V\n", b"C\t\n[]", b"C\t\n{}",
    b"C\t\nnot json", b"hello",
])  # fmt: skip
def test_what_is_not_a_notice_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(payload)
