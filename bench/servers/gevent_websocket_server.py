"""gevent-websocket."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from gevent.pywsgi import WSGIServer  # noqa: E402
from geventwebsocket.handler import WebSocketHandler  # noqa: E402

everybody = set()


def application(environ, start_response):
    ws = environ["wsgi.websocket"]
    everybody.add(ws)
    try:
        while (data := ws.receive()) is not None:
            for other in list(everybody) if data.startswith("fan:") else [ws]:
                other.send(data)
    finally:
        everybody.discard(ws)
    return []


WSGIServer(("127.0.0.1", int(sys.argv[1])), application, handler_class=WebSocketHandler, log=None).serve_forever()
