"""picows (Cython) with uvloop."""

import os
import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

everybody = set()
PING_S = float(os.environ.get("BENCH_PING_S", "0"))


class Echo(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        everybody.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        everybody.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            data = frame.get_payload_as_bytes()
            for other in everybody if data.startswith(b"fan:") else (transport,):
                other.send(frame.msg_type, data)


def tls():
    if len(sys.argv) < 4:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    return context


async def main():
    def listener(_request: WSUpgradeRequest) -> Echo:
        return Echo()

    pings = {"enable_auto_ping": True, "auto_ping_idle_timeout": PING_S} if PING_S else {}
    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]), ssl=tls(), backlog=4096, **pings)
    await server.serve_forever()


uvloop.run(main())
