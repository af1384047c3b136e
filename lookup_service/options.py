"""The kinds of values that the lookup's options have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import Field, asdict, fields
from typing import Any

from ringway.options import SECRET, Checked, count, number, option
from ringway.zookeeper.guards import GuardOptions

from .config import AUTH_RULE, CUSTOM, ORIGIN_RULE, api_keys, origins
from .softdown import SoftDownOptions


def _auth(value: str) -> str:
    if value not in ("development", "jwt") and not CUSTOM.fullmatch(value):
        raise ValueError(value)
    return value


API_KEYS_RULE = "must be secrets of 16 or more printable ASCII characters, separated by commas"
TEXT = Checked("text", "must not be empty", SECRET._parse)
AUTH = Checked("how", AUTH_RULE, _auth)
ORIGINS = Checked("origins", ORIGIN_RULE, origins)
API_KEYS = Checked("keys", API_KEYS_RULE, api_keys, show=lambda _: "***")


def guard_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option `--guard-...` for each setting of the publisher's guards; the command gets one argument `guards`."""
    return _settings(command, "guard", "guards", GuardOptions(), "A setting of the publisher's guards")


def softdown_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option `--softdown-...` for each setting of the soft-down; the command gets one argument `softdown`."""
    return _settings(command, "softdown", "softdown", SoftDownOptions(), "When a node is passed over, and how long")


def _settings(
    command: Callable[..., None], prefix: str, argument: str, defaults: GuardOptions | SoftDownOptions, text: str
) -> Callable[..., None]:
    """An option for each field of `defaults`; the command gets one argument, made of all of them."""
    settings = {_flag(prefix, setting.name): setting for setting in fields(defaults)}
    values_by_default = asdict(defaults)

    @functools.wraps(command)
    def with_settings(**values: Any) -> None:
        given = {setting.name: values.pop(_parameter(flag)) for flag, setting in settings.items()}
        command(**{argument: type(defaults)(**given)}, **values)

    for flag, setting in reversed(settings.items()):
        kind, shown = _kind(setting, values_by_default[setting.name]), str(values_by_default[setting.name])
        with_settings = option(flag, type=kind, default=shown, help=f"{text}; docs/operations.md.")(with_settings)
    return with_settings


def _kind(setting: Field[Any], default: float) -> Checked:
    """Counts are whole numbers, times are not; the defaults' types say which is which."""
    least = setting.metadata.get("least", 0)
    if isinstance(default, int):
        return count(least, 1_000_000)
    return number(least, 1e6, "seconds" if setting.name.endswith("_s") else "")


def _flag(prefix: str, setting: str) -> str:
    return f"--{prefix}-{setting.removesuffix('_s').replace('_', '-')}"


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
