"""A TCP proxy that holds back what a server says: the lag of one party, induced for real.

    with DelayProxy(zookeeper) as slow:
        slow.delay_s = 1.5
        cluster.add_node(env={"RINGWAY_ZOOKEEPER": slow.address})
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65536


class DelayProxy:
    """Between a party and a server, in a thread of its own. Only answers and events are delayed, in their order.

    Args:
        target: host:port of the server.
        answers: the part of the delay that applies to connections which have not subscribed (Redis); 0.0: only pushes
            lag, answers do not.

    Attributes:
        delay_s: seconds that each piece is held back; may be changed at any time.
        swallow: so many of the next requests that contain `bait` do not reach the server: after `delay_s` their
            connection is cut instead.
    """

    def __init__(self, target: str, *, answers: float = 1.0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._answers = answers
        self.delay_s = 0.0
        self.swallow, self.bait = 0, b""
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {target}", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._whole = asyncio.Event()
        self._whole.set()

    def cut(self) -> None:
        """The network parts: from now on nothing passes in either direction, and nobody is told."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """What was held back meanwhile goes on, as TCP sends it again."""
        self._loop.call_soon_threadsafe(self._whole.set)

    async def passable(self) -> None:
        """Until nothing is cut."""
        await self._whole.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self.passable()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                await _Pair(self).run((reader, writer), (far_reader, far_writer))
            finally:
                for each in (writer, far_writer):
                    each.transport.abort()

    def delay(self, *, subscribed: bool) -> float:
        return self.delay_s if subscribed else self.delay_s * self._answers


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Pair:
    """One connection through the proxy."""

    def __init__(self, proxy: DelayProxy) -> None:
        self._proxy = proxy
        self._subscribed = False
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def run(self, near: Streams, far: Streams) -> None:
        """Until either side ends."""
        work = (self._there(near[0], far[1]), self._hold(far[0]), self._back(near[1]))
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            self._subscribed = self._subscribed or b"SUBSCRIBE" in data.upper()
            if self._proxy.swallow and self._proxy.bait in data:
                self._proxy.swallow -= 1
                await asyncio.sleep(self._proxy.delay_s)
                return
            await self._proxy.passable()
            writer.write(data)
            await writer.drain()

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(CHUNK):
            self._held.put_nowait((loop.time() + self._proxy.delay(subscribed=self._subscribed), data))

    async def _back(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._held.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._proxy.passable()
            writer.write(data)
            await writer.drain()
