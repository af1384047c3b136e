from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ringway.core.errors import ConfigError
from ringway.options import Common, OneLineErrors, common_options
from ringway.ws_server.config import Config, node_options

SERVERS = ["--zookeeper", "127.0.0.1:2181", "--redis", "redis://127.0.0.1:6379/0"]


def parse(*args: str, env: dict[str, str] | None = None) -> Config:
    """The configuration that these arguments give. Raises ConfigError."""
    made: list[Config] = []

    @click.command(cls=OneLineErrors)
    @common_options
    @node_options
    def command(common: Common, **options: Any) -> None:
        made.append(Config(common=common, **options))

    result = CliRunner().invoke(command, [*SERVERS, *args], env=env or {}, standalone_mode=False)
    if result.exception:
        raise result.exception
    return made[0]


def test_defaults() -> None:
    config = parse()
    assert config.limits.message_bytes == 65536
    assert config.limits.queue_bytes == 1 << 20
    assert (config.limits.ping_s, config.limits.pong_s) == (25, 10)
    assert config.tls is None
    assert config.publishers == config.broadcasters == frozenset()
    assert config.url_for(8081) == "ws://127.0.0.1:8081/ws"
    assert config.http_for(8081) == "http://127.0.0.1:8081"


def test_the_default_id_stays_the_same_for_a_fixed_port() -> None:
    assert parse().id_for(8081) == parse().id_for(8081) != parse().id_for(8082)
    assert parse("--node-id", "n7").id_for(8081) == "n7"


@pytest.mark.parametrize(
    ("advertise", "url"),
    [
        ("wss://n1.example.com", "wss://n1.example.com/ws"),
        ("wss://n1.example.com/", "wss://n1.example.com/ws"),
        ("wss://example.com/n1", "wss://example.com/n1"),
    ],
)
def test_what_is_advertised_has_a_path(advertise: str, url: str) -> None:
    assert parse("--advertise", advertise).url_for(8081) == url


def test_variables_and_flags_name_the_same_options() -> None:
    env = {"RINGWAY_VNODES": "40", "RINGWAY_PUBLISH_ROLES": "admin,speaker", "RINGWAY_SINGLE_SESSION": "1",
           "RINGWAY_BROADCAST_ROLES": "admin"}
    config = parse("--policy", "none", env=env)
    assert (config.vnodes, config.policy, config.single_session) == (40, "none", True)
    assert (config.publishers, config.broadcasters) == ({"admin", "speaker"}, {"admin"})


def test_the_limits_of_a_port_are_options() -> None:
    config = parse("--max-sessions", "7", "--max-handshakes", "8", env={"RINGWAY_MAX_REQUESTS": "9"})
    assert (config.limits.connections, config.limits.handshakes, config.limits.wsgi_requests) == (7, 8, 9)


def test_tls_changes_the_schemes(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.touch()
    key.touch()
    config = parse("--tls-cert", str(cert), "--tls-key", str(key))
    assert config.tls is not None
    assert config.url_for(1) == "wss://127.0.0.1:1/ws"
    assert config.http_for(1) == "https://127.0.0.1:1"
    with pytest.raises(ConfigError, match="RINGWAY_TLS_KEY"):
        parse("--tls-cert", str(cert))


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--node-id", "-x"], "must be 1 to 64"),
        (["--policy", "some"], "must be one of moved, all, none"),
        (["--vnodes", "0"], "must be a whole number, 1 to 4096"),
        (["--port", "70000"], "must be a port number"),
        (["--move-share", "2"], "must be a number"),
        (["--app", "chat"], "must be module:callable"),
        (["--ping", "5"], "must be less than RINGWAY_PING"),
        (["--publish-roles", "a b"], "must be words separated by commas"),
    ],
)
def test_a_bad_value_is_told_with_its_rule(args: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(*args)
