"""The cluster's secrets: which key signs, which keys are still accepted.

One secret serves several purposes (tickets, ring documents); each purpose gets its own key derived from it, so that a
signature made for one can never pass for another.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from hashlib import _Hash

_KID = re.compile(r"[A-Za-z0-9_-]{1,16}")
MIN_SECRET_BYTES = 16
RULE = "must be kid:secret[,kid:secret...]; the first signs, all are accepted; kid 1 to 16 of A-Z a-z 0-9 _ -; " \
    f"secret at least {MIN_SECRET_BYTES} characters without a comma"
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
DEVELOPMENT_KEYS = "dev:ringway-development-key-known-to-everybody"


class KeyRing:
    """Secrets by key id. To rotate: add the new one second everywhere, then make it first, then drop the old one."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._secrets = dict(secrets)
        self.kids = tuple(self._secrets)
        self.active_kid = self.kids[0]
        self.derive = lru_cache(maxsize=64)(self._derive)
        self._begun = lru_cache(maxsize=64)(self._begin)

    def __reduce__(self) -> tuple[type[KeyRing], tuple[Mapping[str, bytes]]]:
        """Without its caches, which cannot be pickled: processes that are spawned (macOS) get it that way."""
        return KeyRing, (self._secrets,)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read `kid:secret,kid:secret`.

        Raises:
            ConfigError: the text breaks `RULE`. The secret itself is not shown.
        """
        secrets: dict[str, bytes] = {}
        for entry in text.split(","):
            kid, _, secret = entry.strip().partition(":")
            if not _KID.fullmatch(kid) or len(secret.encode()) < MIN_SECRET_BYTES or kid in secrets:
                raise ConfigError("RINGWAY_KEYS", f"{kid[:16]}:…", RULE)
            secrets[kid] = secret.encode()
        return cls(secrets)

    @property
    def is_development(self) -> bool:
        """Whether the signing key is the one printed in ringway's source."""
        return f"{self.active_kid}:{self._secrets[self.active_kid].decode()}" == DEVELOPMENT_KEYS

    def knows(self, kid: str) -> bool:
        return kid in self._secrets

    def _derive(self, purpose: str, kid: str) -> bytes:
        """The 32-byte key for `purpose` under `kid`. KeyError: unknown kid."""
        return hmac.digest(self._secrets[kid], b"ringway:" + purpose.encode(), sha256)

    def digest(self, purpose: str, kid: str, data: bytes) -> bytes:
        """HMAC-SHA256 of data. KeyError: unknown kid."""
        inner, outer = self._begun(purpose, kid)  # the key is hashed once, not with every message
        inner, outer = inner.copy(), outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()

    def _begin(self, purpose: str, kid: str) -> tuple[_Hash, _Hash]:
        """RFC 2104, section 4: what is the same for all messages under a key. hmac.HMAC would take twice as long."""
        key = self.derive(purpose, kid).ljust(sha256().block_size, b"\0")
        return sha256(key.translate(_INNER)), sha256(key.translate(_OUTER))

    def mac(self, purpose: str, kid: str, data: bytes) -> str:
        """HMAC-SHA256 of data, in hex. KeyError: unknown kid."""
        return self.digest(purpose, kid, data).hex()
