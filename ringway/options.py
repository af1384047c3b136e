"""Options shared by the commands and the services: each is a flag and a `RINGWAY_...` variable.

A bad value ends the command with exit code 2 and one line that names the variable, the value and the rule:
    RINGWAY_PORT='abc': must be a port number, 0 (any free one) to 65535

    @click.command(cls=Command)
    @common_options
    @option("--port", type=PORT, default="0", help="...")
    def main(common: Common, port: int) -> None: ...
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click

from .core.errors import ConfigError, RingwayError
from .core.keys import DEVELOPMENT_KEYS, KeyRing

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "RINGWAY_"
REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
LOG_LEVELS = ("debug", "info", "warning", "error")


class Checked(ParamType):
    """A parameter type made of a parser (ValueError = bad) and the rule in words, as an error shows it."""

    def __init__(self, name: str, rule: str, parse: Callable[[str], Any], *, show: Callable[[str], str] = str) -> None:
        self.name = name
        self.rule = rule
        self._parse = parse
        self._show = show

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default that is a value already
            return value
        try:
            return self._parse(value)
        except ValueError:
            raise ConfigError(_name_of(param, ctx), self._show(value), self.rule) from None
        except ConfigError as error:  # a parser of the core with a rule of its own
            raise ConfigError(_name_of(param, ctx), self._show(value), error.rule) from None


class CheckedLines(Checked):
    """For options that may be repeated: the variable has one value a line."""

    envvar_list_splitter = "\n"


class Switch(click.types.BoolParamType):
    """On or off, for the variable of an option without a value."""

    rule = "must be 1, true, yes or on; or 0, false, no or off"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise ConfigError(_name_of(param, ctx), value, self.rule) from None


def _name_of(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """The variable, and the flag too when that is where the value came from."""
    if param is None:
        return "value"
    variable = str(param.envvar or param.name)
    source = ctx.get_parameter_source(param.name or "") if ctx else None
    if source is click.core.ParameterSource.COMMANDLINE and param.opts[0].startswith("--"):
        return f"{param.opts[0]} ({variable})"
    return variable


def _masked(value: str) -> str:
    return "***"


def without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//***@", url)


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(value)
        return value

    return parse


def _whole(value: str) -> int:
    """ASCII digits alone: Python's int also takes 8_0 and the digits of other scripts."""
    if re.fullmatch(r"[0-9]{1,18}", value) is None:
        raise ValueError(value)
    return int(value)


def _host_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not 0 < _whole(port) < 65536 or re.search(r"[\s/,]", host):
        raise ValueError(value)
    return value


def _hosts(value: str) -> str:
    return ",".join(_host_port(part.strip()) for part in value.split(","))


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.netloc or parts.path) or re.search(r"\s", value):
            raise ValueError(value)
        return value.rstrip("/")

    return parse


def _web_url(*schemes: str) -> Callable[[str], str]:
    """A URL with a host, and a port that can be, if any."""
    parse = _url(*schemes)

    def parse_whole(value: str) -> str:
        url = parse(value)
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:  # `port` raises ValueError beyond 65535
            raise ValueError(value)
        return url

    return parse_whole


def _readable(value: str) -> Path:
    path = Path(value)
    if not path.is_file():
        raise ValueError(value)
    return path


def _writable(value: str) -> Path:
    path = Path(value)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(value)
    return path


def _named_command(value: str) -> tuple[str, str]:
    name, equals, command = (part.strip() for part in value.partition("="))
    if not equals or not name or not command:
        raise ValueError(value)
    return name, command


def number(low: float, high: float, unit: str = "") -> Checked:
    """A real number within bounds; `unit` is shown in the rule."""

    def parse(value: str) -> float:
        if not value.isascii() or "_" in value or not low <= (parsed := float(value)) <= high:
            raise ValueError(value)
        return parsed

    return Checked("number", f"must be a number{f' of {unit}' if unit else ''}, {low:g} to {high:g}", parse)


def count(low: int, high: int) -> Checked:
    """A whole number within bounds."""

    def parse(value: str) -> int:
        if not low <= (parsed := _whole(value.strip())) <= high:
            raise ValueError(value)
        return parsed

    return Checked("count", f"must be a whole number, {low} to {high}", parse)


def choice(*values: str) -> Checked:
    return Checked("|".join(values), f"must be one of {', '.join(values)}", _matching("|".join(map(re.escape, values))))


PORT = Checked("port", "must be a port number, 0 (any free one) to 65535", count(0, 65535)._parse)
HOST = Checked("host", "must be a host name or address, without port", _matching(r"[A-Za-z0-9.:_-]+"))
NAME = Checked(
    "name",
    "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit",
    _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
)
HOSTS = Checked("hosts", "must be host:port, several separated by commas", _hosts)
WHERE = "then a host and, if any, a port of 1 to 65535"
HTTP_URL = Checked("url", f"must be a URL that starts with http:// or https://, {WHERE}", _web_url("http", "https"))
WS_URL = Checked("url", f"must be a URL that starts with ws:// or wss://, {WHERE}", _web_url("ws", "wss"))
REDIS_URL = Checked(
    "url",
    f"must be a URL that starts with {', '.join(s + '://' for s in REDIS_SCHEMES)}",
    _url(*REDIS_SCHEMES),
    show=without_password,
)
CALLABLE = Checked("module:callable", "must be module:callable", _matching(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"))
FILE = Checked("file", "must be a file that can be read", _readable)
NEW_FILE = Checked("file", "must be a file in a folder that exists", _writable)
FAULT = CheckedLines("name=command", "must be name=command, the command for a shell", _named_command)
SECRET = Checked("secret", "must not be empty", _matching(r"(?s).+"), show=_masked)
KEYS = Checked("kid:secret,...", "must be kid:secret, several separated by commas", KeyRing.parse, show=_masked)


def urls(*schemes: str) -> Checked:
    """Several URLs separated by commas."""
    parse = _web_url(*schemes)
    starts = " or ".join(f"{scheme}://" for scheme in schemes)
    rule = f"must be URLs that start with {starts}, {WHERE}, separated by commas"
    return Checked("urls", rule, lambda value: tuple(parse(part.strip()) for part in value.split(",")))


def option(flag: str, *names: str, type: click.ParamType[Any], help: str, **attrs: Any) -> Callable[[F], F]:
    """`click.option` whose variable is RINGWAY_ and the flag's name; `--zookeeper-ca` is RINGWAY_ZOOKEEPER_CA."""
    variable = PREFIX + flag.removeprefix("--").split("/")[0].replace("-", "_").upper()
    shown: dict[str, Any] = {"envvar": variable, "show_envvar": True, "show_default": True}
    shown["metavar"] = type.name.upper()
    return click.option(flag, *names, type=type, help=help, **(shown | attrs))


def switch(flag: str, *names: str, help: str, **attrs: Any) -> Callable[[F], F]:
    """An option without a value: `--flag`, or RINGWAY_FLAG=1."""
    variable = PREFIX + flag.removeprefix("--").split("/")[0].replace("-", "_").upper()
    shown: dict[str, Any] = {"envvar": variable, "show_envvar": True, "type": Switch()}
    return click.option(flag, *names, is_flag=True, help=help, **(shown | attrs))


@dataclass(frozen=True, slots=True)
class Common:
    """What every service needs to join a cluster. `zookeeper_timeout` is in seconds."""

    zookeeper: str
    redis: str
    cluster: str
    keys: KeyRing
    alg: str
    hash_key: str | None
    zookeeper_timeout: float
    zookeeper_ca: Path | None
    zookeeper_cert: Path | None
    zookeeper_key: Path | None
    zookeeper_digest: str | None
    log_level: str


_COMMON = {
    "zookeeper": option("--zookeeper", type=HOSTS, required=True, help="ZooKeeper servers."),
    "redis": option("--redis", type=REDIS_URL, required=True, help="Redis."),
    "cluster": option(
        "--cluster", type=NAME, default="default", help="Name; several clusters may share the servers."
    ),
    "keys": option(
        "--keys",
        type=KEYS,
        default=DEVELOPMENT_KEYS,
        show_default="a development key that everybody knows",
        help="Keys that sign tickets and ring documents: the first signs, all verify.",
    ),
    "alg": option("--alg", type=choice("xxh64-v1", "blake2b-keyed-v1"), default="xxh64-v1", help="Rule of the ring."),
    "hash_key": option("--hash-key", type=SECRET, default=None, help="Key of blake2b-keyed-v1."),
    "zookeeper_timeout": option(
        "--zookeeper-timeout", type=number(1, 600, "seconds"), default="10", help="ZooKeeper session time-out."
    ),
    "zookeeper_ca": option("--zookeeper-ca", type=FILE, default=None, help="CA file; set = TLS to ZooKeeper."),
    "zookeeper_cert": option("--zookeeper-cert", type=FILE, default=None, help="Client certificate for ZooKeeper."),
    "zookeeper_key": option("--zookeeper-key", type=FILE, default=None, help="Key of the client certificate."),
    "zookeeper_digest": option(
        "--zookeeper-digest", type=SECRET, default=None, help="user:password; znodes get a digest ACL of it."
    ),
    "log_level": option("--log-level", type=choice(*LOG_LEVELS), default="info", help="Least level that is logged."),
}
cluster_option, keys_option = _COMMON["cluster"], _COMMON["keys"]


def zookeeper_tls_options(command: F) -> F:
    """Add the three options of TLS to ZooKeeper."""
    for name in ("zookeeper_key", "zookeeper_cert", "zookeeper_ca"):
        command = _COMMON[name](command)
    return command


def common_options(command: F) -> F:
    """Add the options of `Common`; the command gets one argument `common`."""

    @functools.wraps(command)
    def with_common(*args: Any, **values: Any) -> Any:
        common = Common(**{field.name: values.pop(field.name) for field in fields(Common)})
        if common.alg == "blake2b-keyed-v1" and not common.hash_key:
            raise ConfigError("RINGWAY_HASH_KEY", "", f"must be set with RINGWAY_ALG={common.alg}")
        return command(*args, common=common, **values)

    return functools.reduce(lambda inner, add: add(inner), reversed(_COMMON.values()), with_common)  # type: ignore[return-value]


class OneLineErrors(click.Command):
    """Says what is wrong with the options in one line, and exits with 2."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override] # the rest is passed on
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except ConfigError as error:
            _fail(str(error), 2)
        except click.MissingParameter as error:
            _fail(_missing(error), 2)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except RingwayError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
        except click.Abort:
            sys.exit(130)
        sys.exit(code if isinstance(code, int) else 0)


class Command(OneLineErrors):
    """The class of a service's command."""


class Group(OneLineErrors, click.Group):
    """The class of a group of commands."""

    command_class = Command


def _missing(error: click.MissingParameter) -> str:
    param = error.param
    if param is None or not param.envvar:
        return error.format_message().replace("\n", " ")
    rule = getattr(param.type, "rule", "must be set")
    return f"{param.envvar} is not set, nor {param.opts[0]}: {rule}"


def _fail(message: str, code: int) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)
