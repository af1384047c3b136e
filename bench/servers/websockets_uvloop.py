"""websockets on asyncio with uvloop."""

import asyncio
import os
import ssl
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve

everybody = set()
PING_S = float(os.environ.get("BENCH_PING_S", "20"))  # its default


async def echo(ws):
    everybody.add(ws)
    try:
        async for data in ws:
            if data.startswith("fan:"):
                broadcast(everybody, data)
            else:
                await ws.send(data)
    finally:
        everybody.discard(ws)


def tls():
    if len(sys.argv) < 4:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    return context


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None, ssl=tls(), backlog=4096,
                     ping_interval=PING_S):
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
