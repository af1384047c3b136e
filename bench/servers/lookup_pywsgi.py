"""The lookup's own Flask application on gevent's pywsgi with TCP_NODELAY: what `/route` costs without the fast path."""
# ruff: noqa: E402 - gevent has to replace the standard library's sockets before anybody takes them

from gevent import monkey

monkey.patch_all()

import socket
import sys

from gevent.pywsgi import WSGIServer

from ringway.lookup_service import __main__ as command
from ringway.lookup_service.app import create_app
from ringway.lookup_service.config import LookupConfig
from ringway.lookup_service.services import Services


def serve(config: LookupConfig) -> None:
    services = Services(config)
    services.start()
    server = WSGIServer((config.host, config.port), create_app(services), log=None)
    server.start()
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    sys.stdout.write(f"ringway lookup ready url=http://{config.host}:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


command.serve = serve
command.main()
