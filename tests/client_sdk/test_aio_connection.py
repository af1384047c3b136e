"""The asyncio client's WebSocket against a peer that writes what it likes, byte by byte, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ringway.client_sdk import aio_connection
from ringway.client_sdk.aio_connection import Connection
from ringway.client_sdk.resolver import proxy
from ringway.core.frames import SUBPROTOCOL

WELCOME = {"t": "welcome", "node": "n1", "gen": 7, "epoch": 3}
Script = Callable[["Peer"], Awaitable[None]]


def text(body: Any, **options: Any) -> bytes:
    """A text frame of JSON."""
    return frame(Opcode.TEXT, json.dumps(body).encode(), **options)


def frame(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def goodbye(code: int, reason: str = "") -> bytes:
    return frame(Opcode.CLOSE, Close(code, reason).serialize())


class Peer:
    """The server's end of one connection, after the upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.protocol = ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)])
        self.request: Request | None = None

    async def upgrade(self) -> None:
        self.protocol.receive_data(await self.reader.readuntil(b"\r\n\r\n"))
        (self.request,) = self.protocol.events_received()  # type: ignore[assignment]
        assert self.request is not None
        self.protocol.send_response(self.protocol.accept(self.request))
        self.writer.writelines(self.protocol.data_to_send())

    async def heard(self) -> Frame:
        """The next frame of the client."""
        while not (events := self.protocol.events_received()):
            data = await self.reader.read(65536)
            assert data, "the client is gone"
            self.protocol.receive_data(data)
        assert isinstance(events[0], Frame)
        self.protocol.events[:0] = events[1:]
        return events[0]

    async def until_gone(self) -> None:
        while await self.reader.read(65536):
            pass


class Client:
    """A connection and what it told."""

    def __init__(self) -> None:
        self.wrote: list[str] = []
        self.welcomes: list[dict[str, Any]] = []
        self.attended = asyncio.Event()
        self.connection = Connection(
            1, welcomed=lambda _, frame: self.welcomes.append(frame), attend=lambda _: self.attended.set(),
            wrote=self.wrote.append,
        )

    async def unread(self, count: int) -> list[Any]:
        while len(self.connection.unread) < count and self.connection.end is None:
            self.attended.clear()
            await self.attended.wait()
        return [json.loads(each) for each in self.connection.unread]

    async def end(self) -> tuple[int, str]:
        while self.connection.end is None:
            self.attended.clear()
            await self.attended.wait()
        return self.connection.end


@asynccontextmanager
async def peer(script: Script, *, upgrade: bool = True) -> AsyncIterator[str]:
    """Its URL. What the script raises comes out at the end."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            at = Peer(reader, writer)
            if upgrade:
                await at.upgrade()
            await script(at)
        except Exception as error:  # noqa: BLE001 - the test is told
            done.set_exception(error)
        else:
            done.set_result(None)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws?ticket=t"
        await done


def run(work: Callable[[], Any]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(timed())


async def opened(url: str) -> Client:
    client = Client()
    await client.connection.open(url, None)
    return client


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_frames_come_in_whatever_pieces_the_network_makes_of_them(size: int) -> None:
    async def script(at: Peer) -> None:
        sent = text(WELCOME) + text([1]) + frame(Opcode.PING, b"?") + text(["é" * 100]) + text([3])
        for start in range(0, len(sent), size):
            at.writer.write(sent[start : start + size])
            await at.writer.drain()
            await asyncio.sleep(0)
        assert (await at.heard()).opcode is Opcode.PONG
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert await client.unread(3) == [[1], ["é" * 100], [3]]
            assert client.welcomes == [WELCOME]
            client.connection.abort()

    run(work)


def test_a_message_in_several_frames_is_one_and_control_frames_may_come_between() -> None:
    async def script(at: Peer) -> None:
        whole = json.dumps(["é", 1], ensure_ascii=False).encode()
        cut = whole.index("é".encode()) + 1
        at.writer.write(text(WELCOME) + frame(Opcode.TEXT, whole[:cut], fin=False) + frame(Opcode.PING, b""))
        at.writer.write(frame(Opcode.CONT, whole[cut:-1], fin=False) + frame(Opcode.CONT, whole[-1:]) + text(["next"]))
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert await client.unread(2) == [["é", 1], ["next"]]
            client.connection.abort()

    run(work)


def test_what_is_said_before_the_welcome_means_nothing() -> None:
    async def script(at: Peer) -> None:
        at.writer.write(text({"t": "hello"}) + text(WELCOME) + text([1]))
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert (await client.unread(1), client.connection.opened) == ([[1]], True)
            client.connection.abort()

    run(work)


def test_a_goodbye_right_behind_the_welcome_comes_after_what_was_said_before_it() -> None:
    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME) + text([1]) + goodbye(4300, "{}"))
        assert (await at.heard()).opcode is Opcode.CLOSE

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert (await client.end(), await client.unread(1)) == ((4300, "{}"), [[1]])
            await client.connection.gone

    run(work)


def test_a_goodbye_instead_of_a_welcome_is_an_end_with_its_code() -> None:
    async def script(at: Peer) -> None:
        at.writer.write(goodbye(4302, "elsewhere"))
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert (client.connection.end, client.connection.opened) == ((4302, "elsewhere"), False)
            client.connection.abort()

    run(work)


def test_a_node_that_says_goodbye_and_keeps_the_socket_is_left_at_once_and_cut_off_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aio_connection, "CLOSE_TIMEOUT_S", 0.2)

    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME) + goodbye(4300))
        await at.until_gone()  # or the test's time is over

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            assert (await client.end())[0] == 4300
            await client.connection.gone

    run(work)


@pytest.mark.parametrize(
    ("sent", "code", "why"),
    [
        (frame(Opcode.TEXT, b"\xff"), 1007, "not UTF-8"),
        (text([1], mask=True), 1002, "ProtocolError"),
        (frame(Opcode.CONT, b"x"), 1002, "ProtocolError"),
        (text(["x" * 1_100_000]), 1009, "PayloadTooBig"),
    ],
    ids=["text", "mask", "continuation", "size"],
)
def test_a_node_that_breaks_the_rules_is_told_so_and_left(sent: bytes, code: int, why: str) -> None:
    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME) + text(["before"]) + sent + text(["after"]))
        told = await at.heard()
        assert (told.opcode, Close.parse(told.data).code) == (Opcode.CLOSE, code)

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            ended, reason = await client.end()
            assert ended == 1006
            assert why in reason
            assert await client.unread(1) == [["before"]]
            await client.connection.gone

    run(work)


@pytest.mark.parametrize("welcome", ["[]", "no JSON", '{"t":"welcome"}', '{"t":"welcome","node":1,"gen":1,"epoch":1}'])
def test_a_welcome_that_is_none_is_an_error(welcome: str) -> None:
    async def script(at: Peer) -> None:
        at.writer.write(frame(Opcode.TEXT, welcome.encode()))
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = Client()
            with pytest.raises(aio_connection.NONSENSE):
                await client.connection.open(url, None)
            assert not client.connection.opened
            client.connection.abort()

    run(work)


def test_a_url_without_a_host_is_an_error() -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="names no host"):
            await Client().connection.open("ws:///ws?ticket=t", None)

    run(work)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", InvalidStatus), (b"SSH-2.0\r\n", InvalidMessage),
     (b"", InvalidMessage)],
)
def test_an_answer_that_is_no_upgrade_is_an_error(answer: bytes, error: type[Exception]) -> None:
    async def script(at: Peer) -> None:
        await at.reader.readuntil(b"\r\n\r\n")
        at.writer.write(answer)

    async def work() -> None:
        async with peer(script, upgrade=False) as url:
            client = Client()
            with pytest.raises(error):
                await client.connection.open(url, None)
            client.connection.abort()
            await client.connection.gone

    run(work)


def test_a_node_that_does_not_read_holds_back_the_rest_until_it_does() -> None:
    reads = asyncio.Event()
    count, body = 400, "x" * 50_000

    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME))
        await reads.wait()
        for number in range(count):
            assert json.loads(bytes((await at.heard()).data)) == [number, body]
        at.writer.write(goodbye(1000))
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            connection = client.connection
            connection.outgoing.extend(json.dumps([number, body]) for number in range(count))
            connection.flush()
            await asyncio.sleep(0.1)
            connection.flush()
            held = len(connection.outgoing)
            assert 0 < held < count
            assert connection.transport is not None
            assert connection.transport.get_write_buffer_size() < 1_000_000  # of 20 MB
            await connection.written(0.05)
            assert len(connection.outgoing) == held
            reads.set()
            await connection.written(10)
            assert (len(connection.outgoing), len(client.wrote)) == (0, count)
            await client.end()

    run(work)


def test_held_reading_stops_the_peer_and_goes_on_where_it_stopped() -> None:
    count, body = 400, "x" * 50_000
    written: list[int] = []

    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME))
        for number in range(count):
            at.writer.write(text([number, body]))
            await at.writer.drain()
            written.append(number)
        await at.until_gone()

    async def work() -> None:
        async with peer(script) as url:
            client = await opened(url)
            await client.unread(1)
            client.connection.hold()
            await asyncio.sleep(0.3)
            read, sent = len(client.connection.unread), len(written)
            await asyncio.sleep(0.2)
            assert (len(client.connection.unread), len(written)) == (read, sent)
            assert sent < count
            client.connection.go_on()
            assert [number for number, _ in await client.unread(count)] == list(range(count))
            client.connection.abort()

    run(work)


def test_a_proxy_of_the_environment_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def script(at: Peer) -> None:
        at.writer.write(text(WELCOME) + text([1]))
        assert (await at.heard()).opcode is Opcode.CLOSE
        at.writer.write(goodbye(1000))

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        host, _, port = asked[-1].split()[1].decode().partition(":")
        beyond_reader, beyond_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, beyond_writer), pump(beyond_reader, writer))

    async def work() -> None:
        proxy.cache_clear()  # a node of an earlier test may have had the same port
        server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        async with server, peer(script) as url:
            for name in ("no_proxy", "all_proxy", "https_proxy", "http_proxy"):
                monkeypatch.delenv(name, raising=False)
                monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            client = await opened(url)
            assert (await client.unread(1), client.welcomes) == ([[1]], [WELCOME])
            client.connection.close()
            assert (await client.end())[0] == 1000
            await client.connection.gone
        assert len(asked) == 1
        assert asked[0].startswith(b"CONNECT 127.0.0.1:")

    try:
        run(work)
    finally:
        proxy.cache_clear()
