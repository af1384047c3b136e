"""The ring document in ZooKeeper: everybody reads it, one elected and fenced publisher writes it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from ringway.core.errors import DocumentCorrupt, DocumentError, DocumentForged, RingwayError, Unavailable
from ringway.core.keys import KeyRing
from ringway.core.members import RingDocument

from .client import SERVICE, ZooKeeper
from .runtime import Loop, SingleFlight

log = logging.getLogger(__name__)

RECONCILE_S = 30.0


class Fenced(RingwayError):
    """A publication that ZooKeeper refused, because somebody else has published or the session is over."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"not published: {self.why}; nothing was written"


class RingReader:
    """Follows the ring document and hands each verified new one to `on_document`.

    It reads and watches again after every event, on every new connection and each 30 s, so the last state is seen
    even where an event was lost. What does not verify is dropped and counted in `alarms`: `forged`, `corrupt`,
    `conflict` (two documents of one number), `older` (ZooKeeper was restored from a backup; the publisher mends that),
    `refused` where `on_document` raised another RingwayError. `blind` is True until a document was read that verifies,
    or none was found.

    `on_document` is called for one document at a time, from the reader's task or that of a refresh.
    """

    def __init__(self, zk: ZooKeeper, keys: KeyRing, on_document: Callable[[RingDocument], object]) -> None:
        self.alarms: Counter[str] = Counter()
        self.document: RingDocument | None = None
        self.last_read: float | None = None
        self.blind = True
        self._zk, self._keys, self._on_document = zk, keys, on_document
        self._path = zk.path("ring")
        self._seen: bytes | None = None
        self._lock = zk.runtime.lock()
        self._flights = SingleFlight(zk.runtime, self._read_latest, "refreshing the ring document")
        self._loop = Loop(zk, "reading the ring document", self._step)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def refresh(self, timeout_s: float) -> RingDocument | None:
        """Read the newest document, however far this server of the ensemble lags.

        Callers at the same time share one read, which begins after the call. Returns the last verified document once
        that read is done and applied, or None if ZooKeeper did not answer within `timeout_s` seconds.
        """
        return self.document if self._flights.do(timeout_s) else None

    def _step(self) -> float:
        if self._zk.connected:
            self._read()
        return RECONCILE_S

    def _read_latest(self) -> None:
        self._zk.sync(self._path)
        self._read()

    def _read(self) -> None:
        with self._lock:  # also while it is read: of two reads at once the older could be applied last, as if restored
            data = self._get()
            self.last_read = time.monotonic()
            if data and data != self._seen:
                self._take(data)
                self._seen = data  # after: what failed for a passing reason is tried again
            self.blind = bool(data) and self.document is None

    def _get(self) -> bytes:
        try:
            return self._zk.get(self._path, watch=self._loop.wake)[0]
        except NoNodeError:
            # Watch for its creation; if it appeared in between, come again at once.
            if self._zk.exists(self._path, watch=self._loop.wake) is not None:
                self._loop.wake()
            return b""

    def _take(self, data: bytes) -> None:
        try:
            document = RingDocument.parse(data, self._keys)
            self._check_order(document)
            self._on_document(document)
        except RingwayError as error:
            kind = next((name for type_, name in ALARMS if isinstance(error, type_)), REFUSED)
            self.alarms[kind] += 1
            log.error("ALARM: dropped what stands in %s: %s", self._path, error)
        else:
            self.document = document

    def _check_order(self, document: RingDocument) -> None:
        last = self.document
        if last is None or document.version > last.version:
            return
        if document.version < last.version:
            raise DocumentOlder(f"it is numbered {document.version}, and {last.version} was read before")
        if document.checksum != last.checksum:
            raise DocumentConflict(f"two documents are numbered {document.version}")


class DocumentOlder(DocumentError):
    """Older than one that this process has read."""


class DocumentConflict(DocumentError):
    """Another one with the same number has been read: two writers, which must never happen."""


REFUSED = "refused"
ALARMS: tuple[tuple[type[RingwayError], str], ...] = (
    (DocumentForged, "forged"), (DocumentCorrupt, "corrupt"), (DocumentOlder, "older"), (DocumentConflict, "conflict"),
)
READER_ALARMS = (*(name for _, name in ALARMS), REFUSED)


def session_name(session_id: int) -> str:
    """A session's id as ZooKeeper's own tools print it, without 0x."""
    return f"{session_id & (1 << 64) - 1:016x}"


class Election:
    """Which of the candidates publishes: the one whose `leader/<session>` znode is the oldest.

    Each candidate's znode is its own, so a transaction that checks it proves that the session which won still lives.
    A shared leader path would not do: a successor's znode there has version 0 too.

    `term` is the name of the session that won; None while we are not elected.
    """

    def __init__(self, zk: ZooKeeper, info: bytes = b"{}") -> None:
        self._zk, self._info = zk, info
        self._path = zk.path("leader")
        self._ring = zk.path("ring")
        self.term: str | None = None

    def campaign(self, watch: Callable[..., object]) -> bool:
        """Stand for election, and tell whether we are elected. `watch` is called when that may have changed.

        Raises:
            Unavailable: without a connection nobody knows.
        """
        session = self._zk.session_id
        if session is None:
            raise Unavailable(SERVICE, "not connected")
        mine = session_name(session)
        names = self._candidates(watch)
        if mine not in names:
            self._enter(mine)
            names = self._candidates(watch)
        # Publish goes by the session that won. By then there may be another, whose znode would prove nothing.
        self.term = mine if mine == self._oldest(names) else None
        return self.term is not None

    def publish(self, data: bytes, expected_version: int) -> None:
        """Write the ring document, as `write` does.

        Args:
            expected_version: of the ring znode, as read together with the document that this one follows.
        """
        self.write(self._ring, data, expected_version)

    def write(self, path: str, data: bytes, expected_version: int) -> None:
        """Write a znode in one transaction with the proof that the session which won lives.

        Raises:
            Fenced: refused; nothing was written.
            Unavailable: no answer. It may or may not have been written: read again before anything else.
        """
        if self.term is None:
            raise Fenced("this process is not elected")

        def build(transaction: Any) -> None:
            transaction.check(f"{self._path}/{self.term}", 0)
            transaction.set_data(path, data, expected_version)

        try:
            self._zk.commit(build)
        except NoNodeError as error:
            raise Fenced("our candidacy or the znode is gone") from error
        except BadVersionError as error:
            raise Fenced("another publisher has written meanwhile") from error

    def read(self, watch: Callable[..., object] | None = None) -> tuple[bytes, int]:
        """The ring znode's data and version; made empty where it does not exist."""
        try:
            data, stat = self._zk.get(self._ring, watch=watch)
        except NoNodeError:
            self._zk.ensure_path(self._ring)
            data, stat = self._zk.get(self._ring, watch=watch)
        return data, stat.version

    def resign(self) -> None:
        """Withdraw, so that another candidate takes over at once."""
        session = self._zk.session_id
        if session is not None:
            try:
                self._zk.delete(f"{self._path}/{session_name(session)}")
            except NoNodeError:
                return

    def _candidates(self, watch: Callable[..., object]) -> set[str]:
        try:
            return set(self._zk.children(self._path, watch=watch))
        except NoNodeError:
            self._zk.ensure_path(self._path)
            return set(self._zk.children(self._path, watch=watch))

    def _enter(self, mine: str) -> None:
        try:
            self._zk.create(f"{self._path}/{mine}", self._info, ephemeral=True)
        except NodeExistsError:
            return  # an answer that was lost: it is there

    def _oldest(self, names: set[str]) -> str | None:
        """The candidate whose znode was created first; there are as many candidates as lookup processes.

        A znode named after another session than its own is no candidacy: its maker's session changed while it entered.
        """
        stats = self._zk.get_many([f"{self._path}/{name}" for name in names], [None] * len(names))
        found = [(name, answer[1]) for name, answer in zip(names, stats, strict=True) if answer is not None]
        born = {name: stat.czxid for name, stat in found if session_name(stat.ephemeralOwner) == name}
        return min(born, key=born.__getitem__, default=None)
