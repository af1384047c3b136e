"""Who may get a ticket for which uid, and who may call the push and operator endpoints.

An authenticator takes an `AuthRequest` and returns the `Identity`, or raises `Unauthorized` (401) or `Forbidden` (403).
It is called on every route answer, so it should not do I/O; where it must, it may block its own request only.
"""

from __future__ import annotations

import hmac
import importlib
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from ringway.core.errors import ConfigError, InvalidInput, shown
from ringway.core.uids import validate_uid

from .answers import BEARER, Refusal

log = logging.getLogger(__name__)

DEVELOPMENT = "development"
MIN_SECRET_BYTES = 32  # RFC 7518 3.2: a key for HS256 is at least as long as its hash


class Identity(NamedTuple):
    """Who asks. `uid` None may be anyone; `roles` go into the ticket, and nodes decide by them."""

    uid: str | None = None
    roles: tuple[str, ...] = ()


class Unauthorized(Refusal):
    """401: no credentials, or credentials that do not hold."""

    def __init__(self, message: str) -> None:
        error = f', error="invalid_token", error_description="{_quotable(message)}"'
        super().__init__(401, "unauthorized", message, challenge=BEARER + error)


class Forbidden(Refusal):
    """403: the credentials hold, but not for this."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "forbidden", message, challenge=f'{BEARER}, error="insufficient_scope"')


class AuthRequest(NamedTuple):
    """What an authenticator may look at. `uid` is what a ticket is asked for, None where nobody's."""

    uid: str | None
    environ: Mapping[str, Any]

    def header(self, name: str) -> str | None:
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"))

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer <token>`."""
        scheme, _, token = (self.header("Authorization") or "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    @property
    def remote(self) -> str:
        return str(self.environ.get("REMOTE_ADDR", ""))


ANYONE = Identity()
Authenticator = Callable[[AuthRequest], Identity]


def anyone(request: AuthRequest) -> Identity:
    """The development authenticator: everybody is who they say they are."""
    return ANYONE


class BearerJwt:
    """Users bring a JWT of your identity provider; its uid claim says who they are, its `roles` what they may."""

    def __init__(
        self, key: str, algorithm: str, *, audience: str | None = None, issuer: str | None = None, claim: str = "sub"
    ) -> None:
        self._key, self._algorithms = key, [algorithm]
        self._audience, self._issuer, self._claim = audience, issuer, claim
        self._options: Any = {"require": ["exp", claim], "verify_aud": audience is not None, "verify_sub": False}

    def __call__(self, request: AuthRequest) -> Identity:
        if request.bearer is None:
            raise Unauthorized("no token; send the header 'Authorization: Bearer <JWT>'")
        claims = self._claims(request.bearer)
        try:
            uid = validate_uid(claims[self._claim], self._claim)
        except InvalidInput as error:
            raise Unauthorized(f"the token's claim is not a uid: {error}") from None
        roles = claims.get("roles", [])
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthorized("the token's claim roles must be a list of texts")
        return Identity(uid, tuple(roles))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token, self._key, self._algorithms, audience=self._audience, issuer=self._issuer, leeway=10,
                options=self._options,
            )  # fmt: skip
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"the token does not hold ({error}); get a new one and ask again") from None


class Custom:
    """A callable of the deployment: `AuthRequest -> Identity | None` (None: 401); it may raise Forbidden."""

    def __init__(self, spec: str) -> None:
        module, _, name = spec.partition(":")
        try:
            self._call = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError("RINGWAY_AUTH", spec, f"cannot be imported: {error}") from error
        if not callable(self._call):
            raise ConfigError("RINGWAY_AUTH", spec, "must name something that can be called")

    def __call__(self, request: AuthRequest) -> Identity:
        identity = self._call(request)
        if identity is None:
            raise Unauthorized("these credentials are not accepted")
        if not isinstance(identity, Identity):
            raise TypeError(f"the authenticator returned {shown(identity)}; it must return an Identity or None")
        return identity


def allow(identity: Identity, uid: str) -> None:
    """Raises Forbidden where the identity is somebody else."""
    if identity.uid is not None and identity.uid != uid:
        raise Forbidden(f"you are {shown(identity.uid)}, and ask for uid={shown(uid)}; ask for your own")


class ApiKeys:
    """The keys of back ends and operators, as `Authorization: Bearer <key>` or `X-Api-Key: <key>`.

    Without keys the endpoints are open under the development authenticator, and closed under any other.
    """

    def __init__(self, keys: Sequence[str], *, open_without: bool) -> None:
        self._keys = [key.encode() for key in keys]
        self._open = open_without and not keys

    def holds(self, request: AuthRequest) -> bool:
        """Whether the request carries a key, or needs none."""
        if self._open:
            return True
        given = (request.header("X-Api-Key") or request.bearer or "").encode("latin-1", "replace")
        # Each is compared in constant time, and all are: how long it takes tells nothing about the keys.
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0

    def require(self, request: AuthRequest) -> None:
        """Raises Unauthorized, or Forbidden where the deployment has no keys."""
        if self.holds(request):
            return
        if not self._keys:
            raise Forbidden("this endpoint is off: start the lookup with RINGWAY_API_KEYS to use it")
        raise Unauthorized("this endpoint needs an API key; send 'Authorization: Bearer <key>' or 'X-Api-Key: <key>'")


def with_keys(authenticate: Authenticator, keys: ApiKeys) -> Authenticator:
    """A back end that holds an API key may ask for anybody's route."""

    def authenticate_or_key(request: AuthRequest) -> Identity:
        return ANYONE if keys.holds(request) else authenticate(request)

    return authenticate_or_key if keys._keys else authenticate


def hs256(secret: str, **claims: Any) -> BearerJwt:
    """Raises ConfigError for a secret that could be guessed."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigError("RINGWAY_JWT_SECRET", "***", f"must be at least {MIN_SECRET_BYTES} bytes long")
    return BearerJwt(secret, "HS256", **claims)


def rs256(public_key: Path, **claims: Any) -> BearerJwt:
    """Raises ConfigError for a file that is not a PEM public key, or where the package `cryptography` is missing."""
    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError("RINGWAY_JWT_PUBLIC_KEY", public_key, "RS256 needs: pip install cryptography")
    pem = public_key.read_text()
    try:
        jwt.get_algorithm_by_name("RS256").prepare_key(pem)
    except (jwt.InvalidKeyError, ValueError, TypeError) as error:
        raise ConfigError("RINGWAY_JWT_PUBLIC_KEY", public_key, f"must be a PEM public key ({error})") from error
    return BearerJwt(pem, "RS256", **claims)


def _quotable(text: str) -> str:
    """Header-safe: quotes and anything outside ASCII replaced (RFC 6750 3 allows no others)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)
