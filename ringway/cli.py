"""The `ringway` command. The services run as `python -m ringway.ws_server` and `python -m ringway.lookup_service`,
because gevent's patching has to be the first thing their process does; here they are only exec'ed.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import click

from .options import (
    CALLABLE,
    HOSTS,
    PORT,
    REDIS_URL,
    SECRET,
    Group,
    count,
    option,
    urls,
)

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}

lookup_option = option(
    "--lookup",
    type=urls("http", "https"),
    default="http://127.0.0.1:8080",
    help="The lookup service; several separated by commas.",
)
api_key_option = option("--api-key", type=SECRET, default=None, help="API key of the lookup's push and operator calls.")
json_option = click.option("--json", "as_json", is_flag=True, help="The service's answer as JSON.")


@click.group(cls=Group)
@click.version_option(version("ringway"), prog_name="ringway")
def cli() -> None:
    """A WebSocket cluster in which the client finds its own node."""


def _exec(module: str, arguments: list[str]) -> None:
    from .servers import require_server_extra

    require_server_extra()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@cli.command(context_settings=PASS_ON, add_help_option=False)
@click.pass_context
def lookup(context: click.Context) -> None:
    """Run a lookup service, port 8080 unless told."""
    _exec("ringway.lookup_service", context.args)


@cli.command(context_settings=PASS_ON, add_help_option=False)
@click.pass_context
def node(context: click.Context) -> None:
    """Run a node, on a free port unless told."""
    _exec("ringway.ws_server", context.args)


@cli.command()
@option("--nodes", type=count(1, 64), default="3", help="Node processes.")
@option("--lookups", type=count(1, 16), default="1", help="Lookup processes.")
@option("--port", type=PORT, default="8080", help="Port of the first lookup; a free one when it is taken.")
@option("--app", type=CALLABLE, default=None, help="Application of the nodes.")
@option("--zookeeper", type=HOSTS, default=None, help="Real ZooKeeper servers instead of the embedded one.")
@option("--redis", type=REDIS_URL, default=None, help="A real Redis instead of the embedded one.")
def dev(nodes: int, lookups: int, port: int, app: str | None, zookeeper: str | None, redis: str | None) -> int:
    """A whole cluster on this machine, for development. Ctrl-C stops all of it."""
    from .dev import DevOptions, run

    return run(DevOptions(nodes, lookups, port, zookeeper, redis, app))


def main() -> None:
    cli(prog_name="ringway")
