"""Settings of the guards and of the soft-down: a flag and a variable for each."""

from __future__ import annotations

from dataclasses import fields

import click
import pytest
from click.testing import CliRunner, Result

from ringway.lookup_service.options import guard_options, softdown_options
from ringway.lookup_service.softdown import SoftDownOptions
from ringway.options import Command
from ringway.zookeeper.guards import GuardOptions


@click.command(cls=Command)
@guard_options
@softdown_options
def command(guards: GuardOptions, softdown: SoftDownOptions) -> None:
    click.echo(f"{softdown} {guards}")


def run(**variables: str) -> Result:
    return CliRunner().invoke(command, [], env=variables)


def test_without_options_they_are_the_defaults() -> None:
    assert run().output == f"{SoftDownOptions()} {GuardOptions()}\n"


@pytest.mark.parametrize(("prefix", "options"), [("GUARD", GuardOptions()), ("SOFTDOWN", SoftDownOptions())])
def test_each_has_a_variable(prefix: str, options: GuardOptions | SoftDownOptions) -> None:
    for setting in fields(options):
        variable = f"RINGWAY_{prefix}_{setting.name.removesuffix('_s').upper()}"
        assert f"{setting.name}=7" in run(**{variable: "7"}).output


@pytest.mark.parametrize(
    ("variable", "bad", "rule"),
    [
        ("RINGWAY_SOFTDOWN_PROBES", "0", "must be a whole number, 1 to 1000000"),
        ("RINGWAY_SOFTDOWN_TTL", "0", "must be a number of seconds, 1 to 1e+06"),
        ("RINGWAY_GUARD_FLAP_LEAVES", "2.5", "must be a whole number, 0 to 1000000"),
        ("RINGWAY_GUARD_DEBOUNCE", "-1", "must be a number of seconds, 0 to 1e+06"),
    ],
)
def test_a_bad_value_is_one_line(variable: str, bad: str, rule: str) -> None:
    done = run(**{variable: bad})
    assert (done.exit_code, done.output) == (2, f"{variable}='{bad}': {rule}\n")
