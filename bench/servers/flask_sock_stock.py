"""Stock flask-sock on gevent's pywsgi, as its own example shows it."""

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

from flask import Flask  # noqa: E402
from flask_sock import Sock  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402
from simple_websocket import ConnectionClosed  # noqa: E402

app = Flask(__name__)
if ping_s := os.environ.get("BENCH_PING_S"):
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": int(ping_s)}
# Compression off, as for every peer: simple-websocket accepts it only from clients that offer it.
sock = Sock(app)
everybody = set()


@sock.route("/")
def echo(ws):
    everybody.add(ws)
    try:
        while True:
            data = ws.receive()
            for other in list(everybody) if data.startswith("fan:") else [ws]:
                with contextlib.suppress(ConnectionClosed, OSError):  # one that has just gone
                    other.send(data)
    finally:
        everybody.discard(ws)


WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
