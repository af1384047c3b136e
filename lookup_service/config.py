"""The lookup's options, checked once at start."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ringway.core.errors import ConfigError
from ringway.core.hashing import Hashing, hashing
from ringway.options import Common
from ringway.zookeeper.client import TlsOptions
from ringway.zookeeper.guards import GuardOptions

from . import auth
from .auth import ApiKeys, Authenticator, BearerJwt
from .softdown import SoftDownOptions

log = logging.getLogger(__name__)

CUSTOM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
AUTH_RULE = "must be development, jwt or module:callable"
ORIGIN = re.compile(r"https?://[^/\s,*]+|\*")
ORIGIN_RULE = "must be origins like https://app.example, several separated by commas, or *"


@dataclass(frozen=True, slots=True)
class LookupConfig:
    """Everything a worker process is made from; it is handed to it whole. `connects_per_node` is a second."""

    common: Common
    host: str
    port: int
    workers: int
    auth: str
    jwt_secret: str | None
    jwt_public_key: Path | None
    jwt_audience: str | None
    jwt_issuer: str | None
    jwt_uid_claim: str
    api_keys: tuple[str, ...]
    origins: tuple[str, ...]
    connects_per_node: float
    guards: GuardOptions
    softdown: SoftDownOptions
    tls_cert: Path | None
    tls_key: Path | None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("RINGWAY_TLS_KEY", self.tls_key, "must be set together with RINGWAY_TLS_CERT")
        self.authenticator()

    @property
    def url(self) -> str:
        """Where this lookup is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{'https' if self.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def authenticator(self) -> Authenticator:
        """Raises ConfigError where its options cannot work."""
        if self.auth == auth.DEVELOPMENT:
            return auth.anyone
        if self.auth == "jwt":
            return self._jwt()
        if CUSTOM.fullmatch(self.auth):
            return auth.Custom(self.auth)
        raise ConfigError("RINGWAY_AUTH", self.auth, AUTH_RULE)

    def _jwt(self) -> BearerJwt:
        claims = {"audience": self.jwt_audience, "issuer": self.jwt_issuer, "claim": self.jwt_uid_claim}
        if (self.jwt_secret is None) == (self.jwt_public_key is None):
            rule = "needs RINGWAY_JWT_SECRET (HS256) or RINGWAY_JWT_PUBLIC_KEY (RS256), one of them"
            raise ConfigError("RINGWAY_AUTH", self.auth, rule)
        if self.jwt_secret is not None:
            return auth.hs256(self.jwt_secret, **claims)
        assert self.jwt_public_key is not None
        return auth.rs256(self.jwt_public_key, **claims)

    @property
    def keys_of_back_ends(self) -> ApiKeys:
        return ApiKeys(self.api_keys, open_without=self.auth == auth.DEVELOPMENT)

    @property
    def hashing(self) -> Hashing:
        secret = self.common.hash_key
        return hashing(self.common.alg, secret.encode() if secret is not None else None)

    @property
    def zookeeper_tls(self) -> TlsOptions | None:
        common = self.common
        if common.zookeeper_ca is None:
            return None
        cert, key = (str(path) if path else None for path in (common.zookeeper_cert, common.zookeeper_key))
        return TlsOptions(str(common.zookeeper_ca), cert, key)

    def warn(self) -> None:
        """Say loudly what is fit for development only."""
        if self.auth == auth.DEVELOPMENT:
            log.warning(
                "DEVELOPMENT AUTHENTICATOR: anyone gets a ticket for any uid%s."
                " Set RINGWAY_AUTH=jwt or RINGWAY_AUTH=module:callable.",
                "" if self.api_keys else ", and may push messages to anyone",
            )
        if self.common.keys.is_development:
            log.warning("DEVELOPMENT KEY: everybody can forge tickets and rings of this cluster. Set RINGWAY_KEYS.")


def log_to_stderr(level: str) -> None:
    """For the parent, and for workers that were spawned and not forked; where it is done, it stays."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kazoo").setLevel(logging.WARNING)


def origins(value: str) -> tuple[str, ...]:
    """Read a comma-separated list of origins. Raises ValueError."""
    found = tuple(part.strip() for part in value.split(","))
    if not all(ORIGIN.fullmatch(part) for part in found):
        raise ValueError(value)
    return found


def api_keys(value: str) -> tuple[str, ...]:
    """Read a comma-separated list of secrets. Raises ValueError."""
    found = tuple(part.strip() for part in value.split(","))
    if not all(len(part) >= 16 and part.isascii() and part.isprintable() for part in found):
        raise ValueError(value)
    return found
