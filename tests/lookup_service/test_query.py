from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringway.core.errors import InvalidInput
from ringway.lookup_service.query import parameters


def test_plus_is_a_space_and_a_plus_is_sent_escaped() -> None:
    assert parameters("uid=a+b") == {"uid": b"a b"}
    assert parameters("uid=a%2Bb") == {"uid": b"a+b"}


def test_an_escape_is_decoded_once() -> None:
    assert parameters("uid=%2541") == {"uid": b"%41"}
    assert parameters("uid=%41") == {"uid": b"A"}


def test_raw_utf8_bytes_of_the_url_are_taken_as_they_are() -> None:
    assert parameters("uid=" + "用户7".encode().decode("latin-1")) == {"uid": "用户7".encode()}


@pytest.mark.parametrize("query", ["uid=100%", "uid=%4", "uid=%zz", "uid=%%41"])
def test_a_broken_escape_is_refused_with_its_remedy(query: str) -> None:
    with pytest.raises(InvalidInput, match=r"two hexadecimal digits; percent-encode"):
        parameters(query)


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="more than once"):
        parameters("uid=a&uid=b")


def test_empty_parts_and_missing_values() -> None:
    assert parameters("") == {}
    assert parameters("&uid=a&&flag&empty=") == {"uid": b"a", "flag": b"", "empty": b""}


@given(st.text(min_size=1))
def test_what_the_usual_encoders_send_comes_back(uid: str) -> None:
    data = uid.encode("utf-8", "surrogatepass")
    assert parameters("uid=" + quote(data, safe=""))["uid"] == data
    assert parameters(urlencode({"uid": data}))["uid"] == data
