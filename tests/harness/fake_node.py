"""A lookup and nodes that do as they are told: a scripted peer for the SDKs, over real sockets.

The log, tickets and positions work as the protocol says; on top there are verbs for what goes wrong. It runs in a
thread of its own, so that blocking clients can be tested in the same process, and as a program for the tests in
JavaScript (`python -m tests.harness.fake_node`: one JSON call a line on stdin, one JSON answer a line on stdout).
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ringway.core.close_codes import reason_text
from ringway.core.frames import DEDUP_S, SUBPROTOCOL
from ringway.core.pacing import TokenBucket

GEN = 7
LOG = "log1"


def _query(path: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query, keep_blank_values=True).items()}


def _echoed(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """As a node does: the protocol's name where the client offers it, and nothing where it does not."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


@dataclass
class Log:
    """One channel. `base` is the seq before the first entry that is kept."""

    gen: str = LOG
    base: int = 0
    frames: list[dict[str, Any]] = field(default_factory=list)
    ids: set[tuple[str, str]] = field(default_factory=set)
    cursor: int = 0

    @property
    def head(self) -> int:
        return self.base + len(self.frames)

    def append(self, frame: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
        key = (frame["from"], frame["id"])
        if key in self.ids:
            return next((f["seq"] for f in self.frames if (f["from"], f["id"]) == key), 0), None
        self.ids.add(key)
        frame = {**frame, "gen": self.gen, "seq": self.head + 1, "ts": int(time.time() * 1000)}
        self.frames.append(frame)
        return frame["seq"], frame

    def answer(self, after: tuple[str, int] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """{gen, seq, unread, recovered, oldest?} and the frames that follow."""
        gen, start = after or (self.gen, self.cursor)
        recovered = gen == self.gen and start >= self.base
        start = max(start, self.base) if gen == self.gen else self.base
        entry = {"gen": self.gen, "seq": self.head, "unread": self.head - start, "recovered": recovered}
        return (entry if recovered else {**entry, "oldest": self.base + 1}), self.frames[max(0, start - self.base):]


@dataclass(eq=False)
class Session:
    """One open WebSocket."""

    ws: ServerConnection
    uid: str
    groups: set[str] = field(default_factory=set)
    owed: str | None = None  # the message that was refused first

    async def send(self, **frame: Any) -> None:
        try:
            await self.ws.send(json.dumps(frame))
        except ConnectionClosed:  # the client's affair, and what the tests are about
            return


class FakeNode:
    """One node. `greetings` are what the next handshakes get instead of a welcome; see `_greet`."""

    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.server: Server | None = None
        self.port = 0
        self.sessions: list[Session] = []
        self.greetings: deque[tuple[Any, ...]] = deque()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.ping_s = 25.0
        self.dedup_s = float(DEDUP_S)
        self.unavailable = False
        self.mute_ok = False
        self.rate: float | None = None  # messages a second of one session; over it, 4102

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        self.server = await serve(self._serve, "127.0.0.1", self.port, ping_interval=None, compression=None,
                                  select_subprotocol=_echoed)
        self.port = self.server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """As by kill -9: connections break, new ones are refused."""
        if self.server is not None:
            server, self.server = self.server, None
            server.close(close_connections=False)
            for ws in list(server.connections):
                ws.transport.abort()
            await server.wait_closed()

    async def _serve(self, ws: ServerConnection) -> None:
        assert ws.request is not None
        query = _query(ws.request.path)
        self.cluster.handshakes.append({"node": self.name, **query})
        await self.thawed.wait()
        greeting = self.greetings.popleft() if self.greetings else self._check(query)
        if greeting[0] == "late":
            await asyncio.sleep(greeting[1])
            greeting = self._check(query)
        if greeting[0] != "welcome":
            await self._greet(ws, greeting)
            return
        session = Session(ws, self.cluster.tickets[query["ticket"]][0])
        self.sessions.append(session)
        try:
            await self._welcome(session, query.get("inbox"))
            bucket = TokenBucket(self.rate, self.rate * 5) if self.rate else None
            async for text in ws:
                await self.thawed.wait()
                if bucket is not None and bucket.take(time.monotonic()) > 0:
                    await ws.close(4102, reason_text(5000))
                    break
                await self._frame(session, json.loads(text))
        except ConnectionClosed:
            return
        finally:
            self.sessions.remove(session)
            self.cluster.closes.append({"node": self.name, "code": ws.close_code})

    def _check(self, query: dict[str, str]) -> tuple[Any, ...]:
        uid, node, used = self.cluster.tickets.get(query.get("ticket", ""), ("", "", False))
        if node != self.name:
            return ("close", 4302 if node else 4001)
        self.cluster.tickets[query["ticket"]] = (uid, node, True)
        return ("close", 4303) if used else ("welcome",)

    async def _greet(self, ws: ServerConnection, greeting: tuple[Any, ...]) -> None:
        """("close", code, w?), ("drop",) or ("silent",) for a node that opens the socket and says nothing.

        ("say", text) says that and no more; ("late", seconds) is a welcome after that time.
        """
        if greeting[0] == "close":
            await ws.close(greeting[1], reason_text(*greeting[2:3]))
        elif greeting[0] == "say":
            await ws.send(greeting[1])
            await ws.wait_closed()
        elif greeting[0] == "drop":
            ws.transport.abort()
        else:
            await ws.wait_closed()

    async def _welcome(self, session: Session, inbox: str | None) -> None:
        log = self.cluster.logs[f"u:{session.uid}"]
        answer, frames = log.answer(_position(inbox))
        await session.send(
            t="welcome", sid=f"s{len(self.cluster.handshakes)}", uid=session.uid, node=self.name, gen=GEN,
            epoch=self.cluster.epoch, resume=self.cluster.ticket(session.uid, self.name), ping_s=self.ping_s,
            dedup_s=self.dedup_s, inbox=answer, **({"rate": self.rate} if self.rate else {}),
        )
        for frame in frames:
            await session.send(t="msg", **frame)
        for group in self.cluster.members[session.uid]:
            await self._enter(session, group, None)

    async def _frame(self, session: Session, frame: dict[str, Any]) -> None:
        self.cluster.heard.append({"node": self.name, "uid": session.uid, **frame})
        kind = frame["t"]
        if kind == "ping":
            await session.send(t="pong")
        elif kind == "ack":
            self.cluster.logs[frame["ch"]].cursor = frame["seq"]
        elif kind == "join":
            await self._join(session, frame)
        elif kind == "leave":
            session.groups.discard(frame["group"])
            await session.send(t="left", group=frame["group"])
        elif kind == "moving":
            return
        elif not frame.get("volatile") and kind != "broadcast" and self._refuses(session, frame["id"]):
            await session.send(t="error", id=frame["id"], code="unavailable", message="the log is away")
        elif frame.get("body") == "forbidden":
            await session.send(t="error", id=frame["id"], code="forbidden", message="not you")
        else:
            await self._pass_on(session, frame)

    def _refuses(self, session: Session, id: str) -> bool:
        """As a node does: what comes after a message that was refused waits until that one has come again."""
        if self.unavailable:
            session.owed = session.owed or id
            return True
        if session.owed in (None, id):
            session.owed = None
            return False
        return True

    async def _join(self, session: Session, frame: dict[str, Any]) -> None:
        group, start = frame["group"], frame.get("from")
        if group == "secret":
            await session.send(t="error", code="forbidden", message="not you", group=group)
            return
        log = self.cluster.logs[f"g:{group}"]
        if start:
            await self._enter(session, group, (start["gen"], start["seq"]), **{"from": start})
        else:
            await self._enter(session, group, (log.gen, log.head))

    async def _enter(self, session: Session, group: str, after: tuple[str, int] | None, **more: Any) -> None:
        session.groups.add(group)
        answer, frames = self.cluster.logs[f"g:{group}"].answer(after)
        await session.send(t="joined", group=group, **answer, **more)
        for entry in frames:
            await session.send(t="msg", **entry)

    async def _pass_on(self, session: Session, frame: dict[str, Any]) -> None:
        to = frame.get("to", [])
        channels = [f"g:{frame['group']}"] if "group" in frame else ["*"] if frame["t"] == "broadcast" else [
            f"u:{uid}" for uid in (to if isinstance(to, list) else [to])]
        seq = None
        for ch in channels:
            entry = {"ch": ch, "id": frame["id"], "from": session.uid, "body": frame["body"]}
            seq = await self.cluster.put(entry, volatile=frame["t"] == "broadcast" or bool(frame.get("volatile")))
        if not self.mute_ok:
            await session.send(t="ok", id=frame["id"], **({} if seq is None else {"seq": seq}))


def _position(text: str | None) -> tuple[str, int] | None:
    if not text:
        return None
    gen, _, seq = text.rpartition(":")
    return gen, int(seq)


class FakeLookup:
    """One lookup. `answers` are (status, headers, body) for the next requests instead of a route."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.server: Server | None = None
        self.port = 0
        self.answers: deque[tuple[int, dict[str, str], Any]] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        async def never(_: ServerConnection) -> None:
            return

        self.server = await serve(never, "127.0.0.1", self.port, process_request=self._answer)
        self.port = self.server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            server.close()
            await server.wait_closed()

    def _answer(self, _: ServerConnection, request: Request) -> Response:
        query = _query(request.path)
        token = request.headers.get("Authorization", "")
        self.cluster.routes.append({"lookup": self.port, "authorization": token, **query})
        status, headers, body = self.answers.popleft() if self.answers else (200, {}, self.cluster.route(query))
        data = json.dumps(body).encode()
        ours = {"Content-Type": "application/json", "Connection": "close", "Content-Length": str(len(data))}
        return Response(status, "", Headers({**headers, **ours, "Access-Control-Allow-Origin": "*"}), data)


class FakeCluster:
    """Use as a context manager; every verb may be called from any thread."""

    def __init__(self, nodes: int = 2, lookups: int = 1) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake cluster", daemon=True)
        self.epoch = 1
        self.owner = "n1"
        self.connect_after_ms = 0
        self.logs: defaultdict[str, Log] = defaultdict(Log)
        self.members: defaultdict[str, list[str]] = defaultdict(list)  # groups that a user belongs to for good
        self.tickets: dict[str, tuple[str, str, bool]] = {}
        self.handshakes: list[dict[str, Any]] = []
        self.routes: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.closes: list[dict[str, Any]] = []
        self.nodes = {f"n{i + 1}": FakeNode(self, f"n{i + 1}") for i in range(nodes)}
        self.lookups = [FakeLookup(self) for _ in range(lookups)]

    def __enter__(self) -> Self:
        self._thread.start()
        for node in self.nodes.values():
            self._run(node.start())
        for lookup in self.lookups:
            self._run(lookup.start())
        return self

    def __exit__(self, *_: object) -> None:
        for lookup in self.lookups:
            self._run(lookup.kill())
        for node in self.nodes.values():
            self._run(node.kill())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @property
    def urls(self) -> list[str]:
        return [lookup.url for lookup in self.lookups]

    # What the servers ask.

    def ticket(self, uid: str, node: str) -> str:
        ticket = f"t{len(self.tickets)}"
        self.tickets[ticket] = (uid, node, False)
        return ticket

    def route(self, query: dict[str, str]) -> dict[str, Any]:
        names = [self.owner, *(name for name in self.nodes if name != self.owner)]
        alive = [name for name in names if self.nodes[name].server is not None and self.nodes[name].thawed.is_set()]
        name = alive[0] if query.get("avoid") == self.owner and alive else self.owner
        ticket = self.ticket(query["uid"], name)
        return {
            "uid": query["uid"], "node": name, "url": f"{self.nodes[name].url}?ticket={ticket}", "gen": GEN,
            "epoch": self.epoch, "ticket": ticket, "expires_in": 30, "candidates": names, "stale": False,
            "connect_after_ms": self.connect_after_ms,
        }

    async def put(self, entry: dict[str, Any], *, volatile: bool = False) -> int | None:
        """Append, and give it to every session that takes part."""
        seq, frame = (None, entry) if volatile else self.logs[entry["ch"]].append(entry)
        if frame is not None:
            kind, name = entry["ch"][0], entry["ch"][2:]
            for node in self.nodes.values():
                for session in list(node.sessions):
                    if kind == "*" or ((session.uid == name) if kind == "u" else (name in session.groups)):
                        await session.send(t="msg", **{"ts": 0, **frame})
        return seq

    # Verbs.

    def push(self, ch: str, body: Any, id: str = "", sender: str = "backend") -> int | None:
        """A message from a back end."""
        entry = {"ch": ch, "id": id or f"b{self.logs[ch].head}", "from": sender, "body": body}
        return self._run(self.put(entry))  # type: ignore[no-any-return]

    def add_member(self, uid: str, group: str) -> None:
        """From now on each session of the user is joined to the group, from the read cursor."""
        self.members[uid].append(group)

    def change_owner(self, node: str) -> None:
        """A new ring."""
        self.owner, self.epoch = node, self.epoch + 1

    def move(self, to: str, *, epoch: int | None = None, url: str | None = None) -> None:
        """A new ring, and a move frame to every session of the old owner."""
        old = self.nodes[self.owner]
        self.change_owner(to)

        async def tell() -> None:
            for session in list(old.sessions):
                target = url or f"{self.nodes[to].url}?ticket={self.ticket(session.uid, to)}"
                await session.send(t="move", node=to, url=target, gen=GEN, epoch=epoch or self.epoch, deadline_ms=2000)

        self._run(tell())

    def close_all(self, node: str, code: int, w: int = 0, e: int = 0) -> None:
        """Close every session of a node with a code and a reason."""
        async def tell() -> None:
            for session in list(self.nodes[node].sessions):
                await session.ws.close(code, reason_text(w, e))

        self._run(tell())

    def say(self, node: str, frame: dict[str, Any]) -> None:
        """Send every session of a node this frame."""
        async def tell() -> None:
            for session in list(self.nodes[node].sessions):
                await session.send(**frame)

        self._run(tell())

    def drop_all(self, node: str) -> None:
        """Break every connection of a node."""
        async def cut() -> None:
            for session in list(self.nodes[node].sessions):
                session.ws.transport.abort()

        self._run(cut())

    def kill(self, node: str) -> None:
        self._run(self.nodes[node].kill())

    def start(self, node: str) -> None:
        self._run(self.nodes[node].start())

    def kill_lookup(self, index: int) -> None:
        self._run(self.lookups[index].kill())

    def freeze(self, node: str) -> None:
        """The node's sockets stay open and nothing is answered."""
        self._loop.call_soon_threadsafe(self.nodes[node].thawed.clear)

    def thaw(self, node: str) -> None:
        self._loop.call_soon_threadsafe(self.nodes[node].thawed.set)

    def greet(self, node: str, *greeting: Any) -> None:
        """What the next handshake on a node gets instead of a welcome."""
        self.nodes[node].greetings.append(greeting)

    def answer(self, lookup: int, status: int, headers: dict[str, str], body: Any) -> None:
        """What the next request to a lookup gets instead of a route."""
        self.lookups[lookup].answers.append((status, headers, body))

    def set(self, node: str, name: str, value: Any) -> None:
        """ping_s, dedup_s, unavailable, mute_ok, rate of a node."""
        setattr(self.nodes[node], name, value)

    def lose_log(self, ch: str, gen: str, base: int = 0) -> None:
        """The log starts anew (another gen), or is trimmed (the same gen, base up to which entries are gone)."""
        log = self.logs[ch]
        if gen == log.gen:
            log.frames, log.base = log.frames[base - log.base:], base
        else:
            self.logs[ch] = Log(gen=gen, base=base)

    def count(self, node: str) -> int:
        return len(self.nodes[node].sessions)

    def seen(self) -> dict[str, Any]:
        """Everything that came in, for tests in another process."""
        return {"handshakes": self.handshakes, "routes": self.routes, "heard": self.heard, "closes": self.closes,
                "urls": self.urls, "sessions": {name: len(node.sessions) for name, node in self.nodes.items()}}


def main() -> None:
    """Read calls from stdin until it ends: {"call": "move", "args": [...], "kwargs": {...}}."""
    options = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    with FakeCluster(**options) as cluster:
        print(json.dumps(cluster.seen()), flush=True)
        for line in sys.stdin:
            call = json.loads(line)
            verb: Callable[..., Any] = getattr(cluster, call["call"])
            print(json.dumps(verb(*call.get("args", []), **call.get("kwargs", {}))), flush=True)


if __name__ == "__main__":
    main()
