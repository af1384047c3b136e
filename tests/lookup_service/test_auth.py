from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from ringway.core.errors import ConfigError
from ringway.lookup_service.auth import (
    ApiKeys,
    AuthRequest,
    Custom,
    Forbidden,
    Identity,
    Unauthorized,
    allow,
    anyone,
    hs256,
    rs256,
    with_keys,
)
from tests.lookup_service.helpers import environ

SECRET = "a secret of users' tokens, 32 bytes or more"
KEY = "an-api-key-of-a-back-end"


def asked(uid: str | None = "alice", **headers: str) -> AuthRequest:
    return AuthRequest(uid, environ(**headers))


def bearer(**claims: Any) -> AuthRequest:
    token = jwt.encode({"sub": "alice", "exp": time.time() + 60} | claims, SECRET, "HS256")
    return asked(authorization=f"Bearer {token}")


def test_development_lets_anyone_be_anyone() -> None:
    assert anyone(asked()) == Identity(None, ())


def test_a_jwt_says_who_and_what() -> None:
    assert hs256(SECRET)(bearer(roles=["admin"])) == Identity("alice", ("admin",))
    assert hs256(SECRET, claim="user")(bearer(user="用户7")) == Identity("用户7", ())


@pytest.mark.parametrize(
    "claims",
    [{"exp": time.time() - 60}, {"exp": None}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 257},
     {"roles": "admin"}, {"roles": [1]}, {"nbf": time.time() + 600}],
)  # fmt: skip
def test_claims_that_do_not_hold_are_401(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized) as refused:
        hs256(SECRET)(bearer(**claims))
    assert refused.value.status == 401
    assert refused.value.challenge is not None
    assert 'error="invalid_token"' in refused.value.challenge


def test_tokens_of_others_are_401() -> None:
    check = hs256(SECRET)
    wrong_key = jwt.encode({"sub": "alice", "exp": time.time() + 60}, SECRET + "x", "HS256")
    unsigned = jwt.encode({"sub": "alice", "exp": time.time() + 60}, None, "none")
    for header in (f"Bearer {wrong_key}", f"Bearer {unsigned}", "Bearer", "Bearer  ", "Basic YTpi", "Bearer a.b.c", ""):
        with pytest.raises(Unauthorized):
            check(asked(authorization=header))


def test_audience_and_issuer_are_checked_where_given() -> None:
    check = hs256(SECRET, audience="ringway", issuer="https://id.test")
    assert check(bearer(aud="ringway", iss="https://id.test")).uid == "alice"
    for claims in ({}, {"aud": "other", "iss": "https://id.test"}, {"aud": "ringway", "iss": "other"}):
        with pytest.raises(Unauthorized):
            check(bearer(**claims))


def test_a_guessable_secret_is_refused_at_start() -> None:
    with pytest.raises(ConfigError, match="at least 32 bytes"):
        hs256("short")


def test_rs256_by_public_key(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    check = rs256(path)
    claims = {"sub": "alice", "exp": time.time() + 60}
    assert check(asked(authorization=f"Bearer {jwt.encode(claims, private, 'RS256')}")).uid == "alice"
    # The public key must not pass as an HMAC secret (CVE-2015-9235 and its kin).
    import hmac
    from base64 import urlsafe_b64encode

    def part(data: bytes) -> bytes:
        return urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(b'{"sub":"eve","exp":9999999999}')
    forged = signed + b"." + part(hmac.digest(pem, signed, "sha256"))
    with pytest.raises(Unauthorized):
        check(asked(authorization=f"Bearer {forged.decode()}"))
    path.write_text("no key")
    with pytest.raises(ConfigError, match="PEM public key"):
        rs256(path)


def by_header(request: AuthRequest) -> Identity | None:
    """A custom authenticator, as a deployment would write it."""
    name = request.header("X-User")
    if name == "banned":
        raise Forbidden("you are banned")
    return Identity(name, ("from-header",)) if name else None


def not_an_identity(request: AuthRequest) -> str:
    return "alice"


def test_a_custom_callable() -> None:
    check = Custom("tests.lookup_service.test_auth:by_header")
    assert check(asked(x_user="alice")) == Identity("alice", ("from-header",))
    with pytest.raises(Unauthorized):
        check(asked())
    with pytest.raises(Forbidden, match="banned"):
        check(asked(x_user="banned"))


@pytest.mark.parametrize("spec", ["no.such.module:f", "tests.lookup_service.test_auth:absent",
                                  "tests.lookup_service.test_auth:SECRET"])  # fmt: skip
def test_a_custom_callable_that_is_none_is_refused_at_start(spec: str) -> None:
    with pytest.raises(ConfigError, match="RINGWAY_AUTH"):
        Custom(spec)


def test_a_custom_callable_that_answers_nonsense_is_an_error() -> None:
    with pytest.raises(TypeError, match="must return an Identity"):
        Custom("tests.lookup_service.test_auth:not_an_identity")(asked())


def test_only_the_own_uid_is_allowed() -> None:
    allow(Identity(None), "anyone")
    allow(Identity("alice"), "alice")
    with pytest.raises(Forbidden, match="'bob'"):
        allow(Identity("alice"), "bob")


def test_api_keys() -> None:
    keys = ApiKeys([KEY, "another-key-of-others"], open_without=True)
    for request in (asked(authorization=f"Bearer {KEY}"), asked(x_api_key=KEY),
                    asked(x_api_key="another-key-of-others")):  # fmt: skip
        keys.require(request)
    for request in (asked(), asked(x_api_key=KEY + "x"), asked(x_api_key=KEY[:-1]), asked(x_api_key="ключ")):
        with pytest.raises(Unauthorized):
            keys.require(request)


def test_without_keys_the_endpoints_are_open_in_development_only() -> None:
    ApiKeys([], open_without=True).require(asked())
    with pytest.raises(Forbidden, match="RINGWAY_API_KEYS"):
        ApiKeys([], open_without=False).require(asked())
    with pytest.raises(Forbidden):
        ApiKeys([], open_without=False).require(asked(x_api_key=""))


def test_a_back_end_may_ask_for_anybodys_route() -> None:
    check = with_keys(hs256(SECRET), ApiKeys([KEY], open_without=False))
    assert check(asked(authorization=f"Bearer {KEY}")) == Identity(None, ())
    assert check(bearer()).uid == "alice"
    with pytest.raises(Unauthorized):
        check(asked(authorization="Bearer something-else-entirely"))


def test_a_challenge_is_a_header_whatever_the_message() -> None:
    challenge = Unauthorized('quote " backslash \\ newline \n umlaut ü').challenge
    assert challenge is not None
    assert challenge.isascii()
    assert "\n" not in challenge
    assert challenge.count('"') == 6
