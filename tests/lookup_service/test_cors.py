from __future__ import annotations

from ringway.lookup_service.cors import Cors

APP, OTHER = "https://app.test", "https://other.test"


def test_any_origin() -> None:
    headers = dict(Cors(["*"]).headers("/route", APP))
    assert headers == {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "ETag, Retry-After"}


def test_listed_origins_are_echoed_and_others_get_nothing() -> None:
    cors = Cors([APP])
    assert dict(cors.headers("/route", APP))["Access-Control-Allow-Origin"] == APP
    for origin in (OTHER, None, "null", APP + ".evil.test"):
        assert cors.headers("/route", origin) == (("Vary", "Origin"),)


def test_never_with_credentials() -> None:
    for cors in (Cors(["*"]), Cors([APP])):
        assert "Access-Control-Allow-Credentials" not in dict(cors.preflight("/route", APP))


def test_a_preflight_allows_the_token() -> None:
    assert "Authorization" in dict(Cors([APP]).preflight("/route", APP))["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Headers" not in dict(Cors([APP]).preflight("/route", OTHER))


def test_what_changes_something_is_for_no_page() -> None:
    for path in ("/send", "/publish", "/broadcast", "/nodes/n1/drain"):
        assert Cors(["*"]).headers(path, APP) == ()
        assert Cors(["*"]).preflight(path, APP) == ()
