"""python-socketio on gevent, with its Redis manager when a Redis URL is given: WebSocket transport, no long polling.

`to` events carry a user id (a room), as its documentation advises for sending to one user across servers.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import socketio  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402
from geventwebsocket.handler import WebSocketHandler  # noqa: E402

manager = socketio.RedisManager(sys.argv[2]) if len(sys.argv) > 2 else None
sio = socketio.Server(async_mode="gevent", client_manager=manager, transports=["websocket"], cors_allowed_origins="*")


@sio.event
def m(sid, data):
    if data.startswith("fan:"):
        sio.emit("m", data)
    else:
        sio.emit("m", data, to=sid)


@sio.event
def iam(sid, uid):
    sio.enter_room(sid, uid)
    sio.emit("iam", "", to=sid)


@sio.event
def to(sid, uid, data):
    sio.emit("m", data, to=uid)


address, app = ("127.0.0.1", int(sys.argv[1])), socketio.WSGIApp(sio)
WSGIServer(address, app, handler_class=WebSocketHandler, log=None).serve_forever()
