"""The bound for a fan-out: an upgrade, and then nothing but a loop of non-blocking sends over all sockets.

It parses no frames: each read of the first client that sends anything is taken for one message to pass on.
"""

import base64
import contextlib
import hashlib
import select
import socket
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAYLOAD = b"fan:" + b"x" * 64
FRAME = bytes([0x81, len(PAYLOAD)]) + PAYLOAD


def upgraded(sock: socket.socket) -> bool:
    head = sock.recv(4096)
    if not head:  # somebody who only wanted to know whether we listen
        return False
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return True


def said(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionError:
        return b""


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
clients: dict[int, socket.socket] = {}
while True:
    for descriptor, _ in poll.poll():
        if descriptor == listener.fileno():
            client, _address = listener.accept()
            if upgraded(client):
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
        elif said(clients[descriptor]):
            for other in clients.values():
                with contextlib.suppress(ConnectionError):  # a run is over, its clients go
                    other.send(FRAME)
        else:
            poll.unregister(descriptor)
            clients.pop(descriptor).close()
