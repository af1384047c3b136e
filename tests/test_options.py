"""Options: a flag and a variable each; a bad value is one line that names the variable, the value and the rule."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result

from ringway.options import (
    CALLABLE,
    FILE,
    HOST,
    HTTP_URL,
    PORT,
    SECRET,
    WHERE,
    WS_URL,
    Command,
    Common,
    choice,
    common_options,
    count,
    number,
    option,
    switch,
    urls,
)

SERVERS = {"RINGWAY_ZOOKEEPER": "127.0.0.1:2181", "RINGWAY_REDIS": "redis://127.0.0.1:6379/0"}


@click.command(cls=Command)
@common_options
@option("--port", type=PORT, default="0", help="Port.")
@option("--host", type=HOST, default="127.0.0.1", help="Host.")
@option("--advertise", type=WS_URL, default=None, help="URL of clients.")
@option("--hook", type=HTTP_URL, default=None, help="URL.")
@option("--app", type=CALLABLE, default=None, help="Application.")
@option("--tls-cert", type=FILE, default=None, help="Certificate.")
@option("--api-key", type=SECRET, default=None, help="Key.")
@option("--ping", type=number(1, 300, "seconds"), default="25", help="Ping.")
@option("--vnodes", type=count(1, 4096), default="256", help="Weight.")
@option("--auth", type=choice("development", "jwt"), default="development", help="Authenticator.")
@option("--lookup", type=urls("http", "https"), default="http://a", help="Lookups.")
@switch("--single-session", help="One session per uid.")
def command(common: Common, **values: object) -> None:
    click.echo(repr((common, values)))


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(command, arguments, env={**SERVERS, **variables})


@pytest.mark.parametrize(
    ("variable", "bad", "rule"),
    [
        ("RINGWAY_PORT", "abc", "must be a port number, 0 (any free one) to 65535"),
        ("RINGWAY_PORT", "65536", "must be a port number, 0 (any free one) to 65535"),
        ("RINGWAY_PORT", "-1", "must be a port number, 0 (any free one) to 65535"),
        ("RINGWAY_PORT", "8_0", "must be a port number, 0 (any free one) to 65535"),
        ("RINGWAY_HOST", "a b", "must be a host name or address, without port"),
        ("RINGWAY_ADVERTISE", "http://x", f"must be a URL that starts with ws:// or wss://, {WHERE}"),
        ("RINGWAY_ADVERTISE", "ws://h:99999/ws", f"must be a URL that starts with ws:// or wss://, {WHERE}"),
        ("RINGWAY_ADVERTISE", "ws://h:0/ws", f"must be a URL that starts with ws:// or wss://, {WHERE}"),
        ("RINGWAY_ADVERTISE", "ws:///ws", f"must be a URL that starts with ws:// or wss://, {WHERE}"),
        ("RINGWAY_HOOK", "x", f"must be a URL that starts with http:// or https://, {WHERE}"),
        ("RINGWAY_APP", "chat", "must be module:callable"),
        ("RINGWAY_TLS_CERT", "/no/such/file", "must be a file that can be read"),
        ("RINGWAY_PING", "0", "must be a number of seconds, 1 to 300"),
        ("RINGWAY_PING", "nan", "must be a number of seconds, 1 to 300"),
        ("RINGWAY_PING", "3_0", "must be a number of seconds, 1 to 300"),
        ("RINGWAY_PING", "٣", "must be a number of seconds, 1 to 300"),
        ("RINGWAY_VNODES", "2.5", "must be a whole number, 1 to 4096"),
        ("RINGWAY_VNODES", "٣", "must be a whole number, 1 to 4096"),
        ("RINGWAY_SINGLE_SESSION", "maybe", "must be 1, true, yes or on; or 0, false, no or off"),
        ("RINGWAY_AUTH", "none", "must be one of development, jwt"),
        ("RINGWAY_LOOKUP", "http://a,ftp://b",
         f"must be URLs that start with http:// or https://, {WHERE}, separated by commas"),
        ("RINGWAY_ZOOKEEPER", "localhost", "must be host:port, several separated by commas"),
        ("RINGWAY_ZOOKEEPER", "localhost:٣", "must be host:port, several separated by commas"),
        ("RINGWAY_ZOOKEEPER", "localhost:0", "must be host:port, several separated by commas"),
        ("RINGWAY_CLUSTER", "a/b", "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit"),
        ("RINGWAY_ALG", "md5", "must be one of xxh64-v1, blake2b-keyed-v1"),
        ("RINGWAY_LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_rule(variable: str, bad: str, rule: str) -> None:
    result = run(**{variable: bad})
    assert result.exit_code == 2
    assert result.stderr == f"{variable}={bad!r}: {rule}\n"
    assert result.stdout == ""


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("off", False), ("", False)])
def test_a_switch_is_on_or_off_by_its_variable(value: str, on: bool) -> None:
    assert f"'single_session': {on}" in run(RINGWAY_SINGLE_SESSION=value).stdout
    assert "'single_session': True" in run("--single-session", RINGWAY_SINGLE_SESSION=value).stdout


def test_a_bad_flag_is_named_with_its_variable() -> None:
    result = run("--port", "abc")
    assert result.exit_code == 2
    assert result.stderr.startswith("--port (RINGWAY_PORT)='abc': must be a port number")


@pytest.mark.parametrize("variable", ["RINGWAY_ZOOKEEPER", "RINGWAY_REDIS"])
def test_a_missing_server_is_one_line_with_its_variable(variable: str) -> None:
    result = CliRunner().invoke(command, [], env={k: v for k, v in SERVERS.items() if k != variable})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{variable} is not set")
    assert result.stderr.count("\n") == 1


def test_an_unknown_option_is_one_line() -> None:
    result = run("--prot", "1")
    assert result.exit_code == 2
    assert "--prot" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [("RINGWAY_KEYS", "k1:short-one", "short-one"), ("RINGWAY_REDIS", "http://:pa55@h/0", "pa55")],
)
def test_secrets_are_not_shown(variable: str, value: str, secret: str) -> None:
    result = run(**{variable: value})
    assert result.exit_code == 2
    assert secret not in result.stderr


def test_a_keyed_ring_needs_its_key() -> None:
    result = run(RINGWAY_ALG="blake2b-keyed-v1")
    assert result.exit_code == 2
    assert "RINGWAY_HASH_KEY" in result.stderr


def test_the_flag_wins_over_the_variable() -> None:
    result = run("--port", "1", RINGWAY_PORT="2")
    assert "'port': 1" in result.stdout


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:6379/0",
        "rediss://:pw@h:6379/0",
        "redis+cluster://a:1,b:2",
        "redis+sentinel://a:1,b:2/master",
    ],
)
def test_every_kind_of_redis_url_is_taken(url: str) -> None:
    assert run(RINGWAY_REDIS=url).exit_code == 0
