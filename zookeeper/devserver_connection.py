"""One client's socket of the development server: bytes in, packets and words out, a queue of answers."""

import socket

from .devserver_acl import Identity
from .devserver_protocol import MAX_PACKET, Malformed

_WORD_BYTES = 4
_WORDS_WITH_ARGUMENT = (b"rwex",)
_LONGEST_LINE = 64
_READ_BYTES = 65536


class Connection:
    """A non-blocking socket with its buffers; it decides nothing. Implements the state's `Peer`."""

    def __init__(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = raw
        self.session_id = 0
        self.identities: set[Identity] = set()
        self.finished = False  # nothing more is read; closes when what was sent has left
        self.changed = False  # the loop has something to write or to close
        # A ZooKeeper packet starts with its length, whose first byte is 0; a word starts with a letter.
        self.speaks_words = False
        self._silent = True
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @property
    def done(self) -> bool:
        return self.finished and not self._outgoing

    @property
    def unsent(self) -> bool:
        return bool(self._outgoing)

    @property
    def speaks_zookeeper(self) -> bool:
        return not (self._silent or self.speaks_words)

    def read(self) -> None:
        """Takes what the kernel has. Raises OSError when the client is gone."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the client closed the connection")
        if self._silent:
            self._silent, self.speaks_words = False, data[:1].isalpha()
        self._incoming += data

    def take_word(self) -> tuple[str, str] | None:
        """A four-letter word and its argument, once they are complete; None for a ZooKeeper client."""
        if not self.speaks_words or len(self._incoming) < _WORD_BYTES:
            return None
        line = bytes(self._incoming)
        if line.startswith(_WORDS_WITH_ARGUMENT) and b"\n" not in line and len(line) < _LONGEST_LINE:
            return None
        self._incoming.clear()
        text = line.decode(errors="replace")
        return text[:_WORD_BYTES], text[_WORD_BYTES:].strip()

    def take_packet(self) -> bytes | None:
        """The next whole packet. Raises Malformed when one is longer than the real server takes."""
        if not self.speaks_zookeeper or len(self._incoming) < 4:
            return None
        length = int.from_bytes(self._incoming[:4], signed=True)
        if not 0 <= length <= MAX_PACKET:
            raise Malformed(f"packet length {length} is not within 0..{MAX_PACKET}")
        if len(self._incoming) < 4 + length:
            return None
        packet = bytes(self._incoming[4 : 4 + length])
        del self._incoming[: 4 + length]
        return packet

    def send(self, packet: bytes) -> None:
        if not self.finished:
            self._outgoing += packet
            self.changed = True

    def finish(self) -> None:
        self.finished = self.changed = True

    def abandon(self) -> None:
        """Closes without sending what is queued."""
        self._outgoing.clear()
        self.finish()

    def flush(self) -> None:
        """Writes what the kernel takes now."""
        self.changed = False
        try:
            while self._outgoing:
                del self._outgoing[: self.socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:  # the client is gone; there is nobody left to tell
            self.abandon()
