"""Which names are allowed: user ids, groups, node ids.

A uid is hashed decoded, never raw (a percent-encoded uid and its decoded form must not have two owners), so all
parts validate the decoded text with this one function.
"""

from __future__ import annotations

import re

from .errors import ConfigError, InvalidUid

MAX_BYTES = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RULE = "must be 1 to 256 bytes of UTF-8 without control characters"


def validate_uid(value: str | bytes | None, field: str = "uid") -> str:
    """The uid as text.

    Args:
        value: decoded text, or the bytes it came in (after URL decoding).
        field: the name used in the error.

    Raises:
        InvalidUid: missing, empty, over 256 bytes of UTF-8, not UTF-8, a lone surrogate, or a control character.
    """
    if not isinstance(value, (str, bytes)):
        remedy = f"send {field} as text" if value is not None else f"add {field}"
        raise InvalidUid(field, value, RULE, remedy)
    try:
        text, size = (value, len(value.encode())) if isinstance(value, str) else (value.decode(), len(value))
    except UnicodeError:
        raise InvalidUid(field, value, RULE, "encode it as UTF-8 (percent-encoded in a URL)") from None
    if not size:
        raise InvalidUid(field, value, RULE, f"give the {field} a value")
    if size > MAX_BYTES:
        raise InvalidUid(field, value, RULE, f"shorten it: it has {size} bytes")
    if _CONTROL.search(text):
        raise InvalidUid(field, value, RULE, "remove the control characters")
    return text


def validate_group(value: str | bytes | None) -> str:
    """The group's name as text; the same rule as for uids."""
    return validate_uid(value, "group")


def validate_node_id(value: str) -> str:
    """The node id, which is part of ZooKeeper paths and ring points.

    Raises:
        ConfigError: not 1 to 64 letters, digits, dots, underscores or hyphens, starting with a letter or digit.
    """
    if not _NODE_ID.fullmatch(value):
        rule = "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit"
        raise ConfigError("node id", value, rule)
    return value
