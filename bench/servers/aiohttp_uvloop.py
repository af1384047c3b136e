"""aiohttp with uvloop."""

import os
import ssl
import sys

import uvloop
from aiohttp import WSMsgType, web

everybody = set()
PING_S = float(os.environ.get("BENCH_PING_S", "0")) or None


async def echo(request):
    ws = web.WebSocketResponse(compress=False, heartbeat=PING_S)
    await ws.prepare(request)
    everybody.add(ws)
    try:
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                for other in list(everybody) if message.data.startswith("fan:") else [ws]:
                    await other.send_str(message.data)
    finally:
        everybody.discard(ws)
    return ws


def tls():
    if len(sys.argv) < 4:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    return context


app = web.Application()
app.router.add_get("/", echo)
uvloop.install()
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, ssl_context=tls(), backlog=4096)
