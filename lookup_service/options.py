"""The kinds of values that the lookup's options have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from ringway.options import SECRET, Checked, number, option
from ringway.zookeeper.guards import GuardOptions

from .config import AUTH_RULE, CUSTOM, ORIGIN_RULE, api_keys, origins


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
    settings = {_flag(setting.name): setting for setting in fields(GuardOptions)}
    defaults = asdict(GuardOptions())

    @functools.wraps(command)
    def with_guards(**values: Any) -> None:
        # Counts are whole numbers, times are not; the defaults' types say which is which.
        given = {s.name: type(defaults[s.name])(values.pop(_parameter(flag))) for flag, s in settings.items()}
        command(guards=GuardOptions(**given), **values)

    for flag, setting in reversed(settings.items()):
        unit = "seconds" if setting.name.endswith("_s") else ""
        text = "A setting of the publisher's guards; docs/operations.md."
        with_guards = option(flag, type=number(0, 1e6, unit), default=str(setting.default), help=text)(with_guards)
    return with_guards


def _flag(setting: str) -> str:
    return f"--guard-{setting.removesuffix('_s').replace('_', '-')}"


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
