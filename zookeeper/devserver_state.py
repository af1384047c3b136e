"""What the development server knows and how it answers: sessions, watches, tree. Pure: takes `now`, returns bytes."""

import itertools
import secrets
from dataclasses import dataclass

from . import devserver_acl as acls
from . import devserver_protocol as wire
from . import devserver_replies as out
from .devserver_protocol import Code, Connect, Op, Reader
from .devserver_tree import Actor, MultiRefused, Refused, Tree
from .devserver_watches import Peer, Watches

_WRITES = {Op.CREATE, Op.CREATE2, Op.DELETE, Op.SET_DATA, Op.SET_ACL, Op.CHECK}


class FutureZxid(Exception):
    """The client has seen a zxid that this server has not: "client must try another server" (kazoo#42)."""


@dataclass(slots=True)
class Session:
    id: int
    password: bytes
    timeout_s: float
    deadline: float
    peer: Peer | None


class State:
    """Everything that a kill loses and a restart of the listener keeps.

    `timeout_range_s` is what the server grants at least and at most, whatever a client asks for.
    """

    def __init__(self, timeout_range_s: tuple[float, float]) -> None:
        self._timeout_range_s = timeout_range_s
        # The high half differs from start to start, so an old id never names a new session.
        self._session_ids = itertools.count((secrets.randbits(30) << 32) + 1)
        self._forgotten: set[int] = set()
        self.sessions: dict[int, Session] = {}
        self.tree = Tree()
        self.watches = Watches()

    def emptied(self) -> "State":
        """A server that has lost its data directory."""
        return State(self._timeout_range_s)

    # -- sessions

    def connect(self, peer: Peer, request: Connect, now: float) -> None:
        """Answers a connection's first packet: a new session, an old one resumed, or "expired". Raises FutureZxid."""
        if request.last_zxid > self.tree.zxid:
            raise FutureZxid(f"client has seen zxid {request.last_zxid:#x}, this server is at {self.tree.zxid:#x}")
        if request.session_id == 0 or request.session_id in self._forgotten:
            self._forgotten.discard(request.session_id)
            self._welcome(peer, self._open(request.timeout_ms / 1000, now), now)
            return
        session = self.sessions.get(request.session_id)
        if session is not None and session.peer is not None:
            session.peer.finish()  # also for a wrong password, as the real server does; its owner comes back
        if session is None or session.password != request.password:
            peer.send(out.connect_reply(0, 0, bytes(wire.PASSWORD_BYTES)))
            peer.finish()
            return
        session.timeout_s = self._granted(request.timeout_ms / 1000)
        self._welcome(peer, session, now)

    def _open(self, asked_s: float, now: float) -> Session:
        session = Session(
            next(self._session_ids), secrets.token_bytes(wire.PASSWORD_BYTES), self._granted(asked_s), now, None
        )
        self.sessions[session.id] = session
        self.tree.zxid += 1
        return session

    def _granted(self, asked_s: float) -> float:
        lowest, highest = self._timeout_range_s
        return min(max(asked_s, lowest), highest)

    def _welcome(self, peer: Peer, session: Session, now: float) -> None:
        session.peer = peer
        session.deadline = now + session.timeout_s
        peer.session_id = session.id
        peer.send(out.connect_reply(round(session.timeout_s * 1000), session.id, session.password))

    def touch(self, peer: Peer, now: float) -> None:
        session = self.sessions.get(peer.session_id)
        if session is not None and session.peer is peer:
            session.deadline = now + session.timeout_s

    def detach(self, peer: Peer) -> None:
        """The connection is gone; its session lives on until its deadline."""
        self.watches.forget(peer)
        session = self.sessions.get(peer.session_id)
        if session is not None and session.peer is peer:
            session.peer = None

    def reap(self, now: float) -> list[int]:
        """Expires every session past its deadline; returns their ids."""
        overdue = [session.id for session in self.sessions.values() if session.deadline <= now]
        for session_id in overdue:
            self.expire(session_id)
        return overdue

    def restart_timers(self, now: float) -> None:
        """A server that was down expires nobody: all sessions get their whole timeout again (ZooKeeper's rule)."""
        for session in self.sessions.values():
            session.deadline = now + session.timeout_s

    def expire(self, session_id: int) -> None:
        """Ends a session: its ephemerals go, its connection closes. Raises KeyError for an unknown id."""
        session = self.sessions.pop(session_id)
        self.watches.fire(self.tree.close_session(session_id))
        if session.peer is not None:
            session.peer.finish()

    def forget_sessions(self) -> None:
        """Amnesia: ephemerals go, and a resuming client gets a new id as if nothing had been (ClickHouse#116690)."""
        for session_id in list(self.sessions):
            self._forgotten.add(session_id)
            self.expire(session_id)

    # -- requests

    def request(self, peer: Peer, packet: bytes, *, now: float, wall_ms: int) -> None:
        """Answers one packet of a connected peer; `wall_ms` is what ctime and mtime say. Raises Malformed."""
        self.touch(peer, now)
        reader = Reader(packet)
        xid, op = reader.int32(), reader.int32()
        if op == Op.AUTH:
            self._authenticate(peer, reader)
        elif op == Op.CLOSE:
            peer.send(out.reply(xid, self.tree.zxid + 1))
            self.expire(peer.session_id)
        else:
            code, body = self._answer(peer, op, reader, wall_ms)
            peer.send(out.reply(xid, self.tree.zxid, code, body))

    def _authenticate(self, peer: Peer, reader: Reader) -> None:
        reader.int32()
        scheme, credential = reader.string(), reader.buffer() or b""
        identity = acls.digest_identity(credential) if scheme == "digest" else None
        if identity is None:
            peer.send(out.reply(wire.AUTH_XID, 0, Code.AUTH_FAILED))
            peer.finish()
            return
        peer.identities.add(identity)
        peer.send(out.reply(wire.AUTH_XID, 0))

    def _answer(self, peer: Peer, op: int, reader: Reader, wall_ms: int) -> tuple[Code, bytes]:
        actor = Actor(peer.session_id, frozenset(peer.identities))
        try:
            if op in _WRITES:
                return Code.OK, self._write(op, reader, actor, wall_ms)
            if op == Op.MULTI:
                return Code.OK, self._multi(reader, actor, wall_ms)
            return Code.OK, self._read(peer, op, reader, actor)
        except Refused as refused:
            return refused.code, b""

    def _write(self, op: int, reader: Reader, actor: Actor, wall_ms: int) -> bytes:
        (body,), events = self.tree.apply([wire.read_write(op, reader)], actor, wall_ms)
        self.watches.fire(events)
        return body

    def _multi(self, reader: Reader, actor: Actor, wall_ms: int) -> bytes:
        operations = wire.read_multi(reader)
        try:
            bodies, events = self.tree.apply([write for _, write in operations], actor, wall_ms)
        except MultiRefused as refused:
            return out.multi_failure(len(operations), refused.index, refused.code)
        self.watches.fire(events)
        return out.multi_reply(zip((op for op, _ in operations), bodies, strict=True))

    def _read(self, peer: Peer, op: int, reader: Reader, actor: Actor) -> bytes:
        match op:
            case Op.PING:
                return b""
            case Op.EXISTS:
                return self._exists(peer, reader)
            case Op.GET_DATA:
                return self._get_data(peer, reader, actor)
            case Op.GET_CHILDREN:
                return self._get_children(peer, reader, actor)[0]
            case Op.GET_CHILDREN2:
                return b"".join(self._get_children(peer, reader, actor))
            case Op.GET_ACL:
                return self._get_acl(reader, actor)
            case Op.SYNC:
                return out.string(reader.string())
            case Op.SET_WATCHES:
                return self._set_watches(peer, reader)
        raise Refused(Code.UNIMPLEMENTED)

    def _exists(self, peer: Peer, reader: Reader) -> bytes:
        path, watch = reader.string(), reader.flag()
        if watch:
            self.watches.data[path].add(peer)  # also for a node that is not there yet
        return self.tree.node(path).stat().to_bytes()

    def _get_data(self, peer: Peer, reader: Reader, actor: Actor) -> bytes:
        path, watch = reader.string(), reader.flag()
        node = self.tree.readable(path, actor)
        if watch:
            self.watches.data[path].add(peer)
        return out.buffer(node.data) + node.stat().to_bytes()

    def _get_children(self, peer: Peer, reader: Reader, actor: Actor) -> tuple[bytes, bytes]:
        path, watch = reader.string(), reader.flag()
        node = self.tree.readable(path, actor)
        if watch:
            self.watches.children[path].add(peer)
        return out.strings(node.children), node.stat().to_bytes()

    def _get_acl(self, reader: Reader, actor: Actor) -> bytes:
        node = self.tree.readable(reader.string(), actor, acls.READ | acls.ADMIN)
        whole = acls.allows(node.acl, acls.ADMIN, actor.identities)
        return out.acl(node.acl if whole else acls.redacted(node.acl)) + node.stat().to_bytes()

    def _set_watches(self, peer: Peer, reader: Reader) -> bytes:
        seen = reader.int64()
        self.watches.restore(peer, self.tree, seen, reader.strings(), reader.strings(), reader.strings())
        return b""
