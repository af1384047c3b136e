"""The `ringway` command. The services run as `python -m ringway.ws_server` and `python -m ringway.lookup_service`,
because gevent's patching has to be the first thing their process does; here they are only exec'ed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import click

from . import operator
from .options import (
    CALLABLE,
    FAULT,
    HOSTS,
    NAME,
    NEW_FILE,
    PORT,
    REDIS_URL,
    SECRET,
    Group,
    cluster_option,
    count,
    keys_option,
    number,
    option,
    switch,
    urls,
    zookeeper_tls_options,
)
from .servers import require_server_extra

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}

lookup_option = option(
    "--lookup",
    type=urls("http", "https"),
    default="http://127.0.0.1:8080",
    help="The lookup service; several separated by commas.",
)
api_key_option = option("--api-key", type=SECRET, default=None, help="API key of the lookup's push and operator calls.")
json_option = switch("--json", "as_json", help="The service's answer as JSON.")
node_names = {"multiple": True, "default": (), "show_default": False, "metavar": "NODE"}


@click.group(cls=Group)
@click.version_option(version("ringway"), prog_name="ringway")
def cli() -> None:
    """A WebSocket cluster in which the client finds its own node."""


def _exec(module: str, arguments: list[str]) -> None:
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


@cli.command()
@click.argument("uid")
@lookup_option
@switch("--explain", help="Also why: hash, virtual node, next candidates.")
@option("--avoid", type=NAME, default=None, metavar="NODE", help="As a client asks that could not reach NODE.")
@json_option
def route(uid: str, lookup: Sequence[str], explain: bool, avoid: str | None, as_json: bool) -> None:
    """Which node owns UID, and a URL that opens its WebSocket."""
    api = operator.LookupApi(lookup)
    answer = api.get("/route", uid=uid, avoid=avoid, explain="1" if explain else None)
    _show(answer, as_json, operator.show_route)


@cli.command()
@lookup_option
@switch("--watch", help="Go on: one line for each new ring, until Ctrl-C.")
@json_option
def ring(lookup: Sequence[str], watch: bool, as_json: bool) -> None:
    """The ring as it is: nodes, states, shares, sessions."""
    api = operator.LookupApi(lookup)
    document, nodes = api.get("/ring"), api.get("/nodes")
    _show(document, as_json, lambda ring: operator.show_ring(ring, nodes["nodes"], nodes["waiting"]))
    if watch:
        for line in operator.follow(api, document):
            click.echo(f"{time.strftime('%H:%M:%S')} {line}")


@cli.command()
@lookup_option
@option("--add", type=NAME, help="A node that would join; may be repeated.", **node_names)
@option("--remove", type=NAME, help="A node that would leave; may be repeated.", **node_names)
@option("--vnodes", type=count(1, 4096), default="256", help="Weight of the added nodes.")
@json_option
def preview(lookup: Sequence[str], add: Sequence[str], remove: Sequence[str], vnodes: int, as_json: bool) -> None:
    """What a change of nodes would move, without doing it."""
    api = operator.LookupApi(lookup)
    answer = api.get("/ring/preview", add=",".join(add) or None, remove=",".join(remove) or None, vnodes=vnodes)
    _show(answer, as_json, operator.show_preview)


@cli.command()
@click.argument("node_id", metavar="NODE")
@lookup_option
@api_key_option
def drain(node_id: str, lookup: Sequence[str], api_key: str | None) -> None:
    """Move all sessions of NODE to the other nodes; then its process exits."""
    for line in operator.drain(operator.LookupApi(lookup, api_key), node_id):
        click.echo(line)


@cli.command()
@click.argument("node_id", metavar="NODE")
@lookup_option
@api_key_option
def rebalance(node_id: str, lookup: Sequence[str], api_key: str | None) -> None:
    """Have NODE move the sessions it does not own; for clusters whose joins move nobody (--policy none)."""
    operator.order(operator.LookupApi(lookup, api_key), node_id, "rebalance")
    click.echo(f"{node_id} moves the sessions that other nodes own")


@cli.command(name="accept-losses")
@lookup_option
@api_key_option
def accept_losses(lookup: Sequence[str], api_key: str | None) -> None:
    """Every missing node is dead: overrule the mass-loss guard, which holds them in the ring."""
    operator.LookupApi(lookup, api_key).call("POST", "/ring/accept-losses")
    click.echo("the nodes that are missing now leave the ring")


@cli.command()
@click.argument("uid")
@lookup_option
@api_key_option
@switch("--sign-out", help="For good: the user's clients do not come back by themselves.")
def close(uid: str, lookup: Sequence[str], api_key: str | None, sign_out: bool) -> None:
    """Close all sessions of UID; its clients ask for a route again."""
    operator.LookupApi(lookup, api_key).call("POST", "/close", json={"uid": uid, "sign_out": sign_out})
    click.echo(f"all sessions of {uid} are {'signed out' if sign_out else 'told to reconnect'}")


@cli.command()
@click.argument("uid")
@click.argument("text")
@lookup_option
@api_key_option
@switch("--volatile", help="Only to who is connected now; not kept.")
def send(uid: str, text: str, lookup: Sequence[str], api_key: str | None, volatile: bool) -> None:
    """Send TEXT to UID from a back end; durable, so an absent user gets it later."""
    api = operator.LookupApi(lookup, api_key)
    answer = api.call("POST", "/send", json=operator.message(uid, text, volatile=volatile))
    click.echo(json.dumps(answer))


@cli.command()
@click.argument("uid")
@lookup_option
def listen(uid: str, lookup: Sequence[str]) -> None:
    """Be UID: print what it gets, one message a line, until Ctrl-C."""
    operator.listen(list(lookup), uid, click.echo)


@cli.command()
@lookup_option
@option("--sessions", type=count(1, 100_000), default="2000", help="Clients.")
@option("--user-rate", type=number(0, 100_000), default="1000", help="Messages a second to users.")
@option("--group-rate", type=number(0, 100_000), default="200", help="Messages a second to groups.")
@option("--two-clients", type=number(0, 1), default="0.1", help="Part of the users that have two clients.")
@option("--permanent", type=number(0, 1), default="0", help="Part of the groups that have their members for good.")
@option("--processes", type=count(1, 64), default="4", help="How many the clients are divided among.")
@option("--seconds", type=number(1, 86_400, "seconds"), default="60", help="How long messages are sent.")
@option("--settle", type=number(1, 3600, "seconds"), default="60", help="For what is owed to arrive after that.")
@option("--seed", type=count(0, 2**31), default="1", help="Decides who talks to whom, and when faults strike.")
@option("--fault", "faults", type=FAULT, help="A shell command that breaks something; may be repeated.",
        multiple=True, default=(), show_default=False)
@option("--report", type=NEW_FILE, default=None, help="HTML page to write, with plots.")
@option("--token", type=CALLABLE, default=None, help="Called with a uid; gives its bearer token for the lookup.")
@api_key_option
def chaos(lookup: Sequence[str], **values: Any) -> int:
    """Traffic with books on a staging cluster, and your own faults. Exit code 1 if a message was lost, doubled or
    out of order and nobody was told."""
    from .chaos import command
    from .chaos.cast import Load

    load = Load(
        values["sessions"], values["user_rate"], values["group_rate"], seed=values["seed"],
        processes=min(values["processes"], values["sessions"]), two_clients=values["two_clients"],
        permanent=values["permanent"],
    )  # fmt: skip
    return command.main(
        command.Options(lookup, load, values["seconds"], values["faults"], values["settle"], values["report"],
                        values["token"], values["api_key"]),
        click.echo,
    )


@cli.command()
@lookup_option
@option("--zookeeper", type=HOSTS, default=None, help="Look into ZooKeeper too.")
@zookeeper_tls_options
@option("--redis", type=REDIS_URL, default=None, help="Look into Redis too.")
@cluster_option
@keys_option
def doctor(lookup: Sequence[str], **servers: Any) -> int:
    """Which ring does each part see? Exit code 1 if they disagree."""
    from . import diagnosis
    from . import doctor as examination

    logging.disable()  # the report says what cannot be reached
    if servers["zookeeper"] or servers["redis"]:
        require_server_extra()
    views = examination.examine(examination.Servers(lookup, **servers))
    click.echo(diagnosis.report(views))
    return 1 if diagnosis.diagnose(views) else 0


def _show(answer: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else text(answer))


def main() -> None:
    cli(prog_name="ringway")
