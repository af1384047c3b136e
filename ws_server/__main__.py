"""`ringway node`: one node process."""
# ruff: noqa: E402 - gevent has to replace the standard library's sockets and locks before anybody takes them

from gevent import monkey

monkey.patch_all()

import logging
import signal
import ssl
from typing import Any

import click
import gevent

from ringway.collector import spare_collector
from ringway.core.errors import AccessDenied, InvalidInput
from ringway.options import Command, Common, common_options

from . import fast
from .config import Config, node_options
from .node import NodeServer

log = logging.getLogger("ringway.ws_server")


@click.command(cls=Command)
@common_options
@node_options
def main(common: Common, **options: Any) -> None:
    """Run a node: it holds WebSocket sessions and joins the cluster.

    SIGTERM or Ctrl-C drains it: its sessions move to other nodes, then it exits. The signal once more stops it at once.
    SIGHUP reads the TLS certificate again.
    """
    config = Config(common=common, **options)
    logging.basicConfig(level=common.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kazoo").setLevel(logging.WARNING)
    if common.keys.is_development:
        log.warning("RINGWAY_KEYS is not set: tickets are signed with a key that everybody knows. DEVELOPMENT ONLY")
    fast.tell(log)
    server = NodeServer(config)
    _on_signals(server)
    try:
        server.start()
    except AccessDenied:
        server.stop()
        raise
    except InvalidInput as error:
        server.stop()
        raise click.ClickException(str(error)) from error
    spare_collector()
    click.echo(f"ringway node {server.id} ready url={server.url} http={server.http}")
    server.wait()


def _on_signals(server: NodeServer) -> None:
    asked = []

    def terminate() -> None:
        asked.append(True)
        gevent.spawn(server.drain if len(asked) == 1 else server.stop)

    def reload() -> None:
        if server.config.tls is None:
            log.info("SIGHUP: no certificate to read again, as RINGWAY_TLS_CERT is not set")
            return
        try:
            server.acceptor.reload_tls()
            log.info("the certificate was read again; connections from now on get it")
        except (OSError, ssl.SSLError) as error:
            log.error("the certificate was not reloaded, the old one stays: %s", error)

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, terminate)
    gevent.signal_handler(signal.SIGHUP, reload)


if __name__ == "__main__":
    main()
