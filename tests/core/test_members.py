"""The ring document: signed, checked, and never half-read."""

from __future__ import annotations

import orjson
import pytest

from ringway.core.errors import ConfigError, DocumentCorrupt, DocumentError, DocumentForged, InvalidInput
from ringway.core.keys import KeyRing
from ringway.core.members import Member, NodeRecord, RingDocument, State, Version

KEYS = KeyRing.parse("k2:second-secret-of-the-cluster,k1:first-secret-of-the-cluster")
OLD_KEYS = KeyRing.parse("k1:first-secret-of-the-cluster")
MEMBERS = [
    Member("n2", "ws://b/ws", "http://b", 128),
    Member("n1", "ws://a/ws", "http://a"),
    Member("n3", "ws://c/ws", "http://c", state=State.DRAINING),
]


def document(keys: KeyRing = KEYS) -> RingDocument:
    return RingDocument.sign(version=Version(1_700_000_000, 7), alg="xxh64-v1", members=MEMBERS, keys=keys)


def tampered(**fields: object) -> bytes:
    return orjson.dumps({**document().as_json(), **fields})


def test_a_document_survives_the_wire() -> None:
    assert RingDocument.parse(document().to_bytes(), KEYS) == document()


def test_only_active_members_have_weight() -> None:
    assert document().weights == {"n1": 256, "n2": 128}
    assert document().member("n3") == MEMBERS[2]
    assert document().member("nobody") is None


def test_members_in_any_order_make_the_same_document() -> None:
    again = RingDocument.sign(version=Version(1_700_000_000, 7), alg="xxh64-v1", members=MEMBERS[::-1], keys=KEYS)
    assert again == document()


def test_an_older_key_is_still_accepted_and_a_removed_one_is_not() -> None:
    assert RingDocument.parse(document(OLD_KEYS).to_bytes(), KEYS).kid == "k1"
    with pytest.raises(DocumentForged, match=r"'k2'.*RINGWAY_KEYS"):
        RingDocument.parse(document(KEYS).to_bytes(), OLD_KEYS)


@pytest.mark.parametrize(("field", "value"), [("gen", 1_700_000_001), ("epoch", 8), ("checksum", "0" * 64),
                                              ("mac", "0" * 64), ("mac", ""), ("kid", "")])
def test_a_changed_field_is_a_forgery(field: str, value: object) -> None:
    with pytest.raises(DocumentForged):
        RingDocument.parse(tampered(**{field: value}), KEYS)


@pytest.mark.parametrize("members", [
    [{**MEMBERS[1].as_json(), "vnodes": 1}],
    [MEMBERS[0].as_json(), MEMBERS[1].as_json()],
    [MEMBERS[1].as_json(), MEMBERS[1].as_json()],
    [{"id": "n1"}],
    "n1",
])
def test_changed_members_are_corrupt(members: object) -> None:
    with pytest.raises(DocumentCorrupt):
        RingDocument.parse(tampered(members=members), KEYS)


GARBAGE = [b"", b"{", b"[]", b"null", b'{"gen":1}', b"\xff\xfe", b'{"gen":-1,"epoch":1,"members":[]}']


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(DocumentError, match="ring document refused"):
        RingDocument.parse(data, KEYS)


def test_a_node_record_survives_the_wire_and_garbage_does_not() -> None:
    record = NodeRecord("n1", "ws://a/ws", "http://a", 256, State.JOINING, "boot-1")
    assert NodeRecord.parse(record.to_bytes()) == record
    assert record.with_state(State.ACTIVE).member().state is State.ACTIVE
    for data in (b"", b"{}", b'{"id":"/"}', orjson.dumps({**orjson.loads(record.to_bytes()), "vnodes": 0})):
        with pytest.raises(InvalidInput, match="node record"):
            NodeRecord.parse(data)


def test_versions_order_by_gen_then_epoch() -> None:
    assert Version.parse("5.12") == Version(5, 12) > Version(5, 2) > Version(4, 99)
    assert str(Version(5, 12)) == "5.12"


@pytest.mark.parametrize("text", ["", "5", "5.", ".5", "5.x", "-1.2", "1.2.3", "１.２", "9" * 30 + ".1"])
def test_a_bad_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"must be gen\.epoch"):
        Version.parse(text)


@pytest.mark.parametrize("text", ["", "k1", "k1:", "k1:short", "k 1:long-enough-secret-here",
                                  ":long-enough-secret-here", "k1:long-enough-secret-here,k1:long-enough-secret-too"])
def test_bad_keys_are_refused_without_showing_the_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyRing.parse(text)
    assert "long-enough" not in str(caught.value)
