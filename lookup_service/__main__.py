"""`python -m ringway.lookup_service`, which `ringway lookup` executes."""

from __future__ import annotations

from typing import Any

import click

from ringway.options import FILE, HOST, PORT, SECRET, Command, Common, common_options, count, number, option
from ringway.zookeeper.guards import GuardOptions

from .config import LookupConfig, log_to_stderr
from .options import API_KEYS, AUTH, ORIGINS, TEXT, guard_options, softdown_options
from .server import serve
from .softdown import SoftDownOptions

RATE = number(1, 1e9, "handshakes a second")


@click.command(cls=Command)
@common_options
@option("--host", type=HOST, default="127.0.0.1", help="Address to listen on.")
@option("--port", type=PORT, default="8080", help="Port to listen on; 0 = a free one.")
@option("--workers", type=count(1, 64), default="1", help="Processes that answer.")
@option("--auth", type=AUTH, default="development", help="Who gets tickets: development (anyone), jwt, or a callable.")
@option("--jwt-secret", type=SECRET, default=None, help="HS256 secret that users' tokens are signed with.")
@option("--jwt-public-key", type=FILE, default=None, help="RS256 public key (PEM) of users' tokens.")
@option("--jwt-audience", type=TEXT, default=None, help="The aud that users' tokens must have.")
@option("--jwt-issuer", type=TEXT, default=None, help="The iss that users' tokens must have.")
@option("--jwt-uid-claim", type=TEXT, default="sub", help="The claim that is the uid.")
@option("--api-keys", type=API_KEYS, default=(), show_default=False, help="Keys of back ends and operators.")
@option("--origins", type=ORIGINS, default="*", help="Origins whose pages may ask for routes.")
@option("--connects-per-node", type=RATE, default="500", help="Clients sent to a node, at most.")
@option("--tls-cert", type=FILE, default=None, help="Certificate chain (PEM); set = HTTPS.")
@option("--tls-key", type=FILE, default=None, help="Key of the certificate.")
@guard_options
@softdown_options
def main(common: Common, guards: GuardOptions, softdown: SoftDownOptions, **options: Any) -> None:
    """Run a lookup service: it tells clients which node is theirs."""
    log_to_stderr(common.log_level)
    config = LookupConfig(common, guards=guards, softdown=softdown, **options)
    config.warn()
    serve(config)


if __name__ == "__main__":
    main()
