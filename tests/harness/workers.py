"""Which worker process of a lookup answers, as the kernel says: the one that holds the other end of the connection."""

from __future__ import annotations

import httpx
import psutil


class Workers:
    """The workers of a lookup's parent process, and which of them have `answered`."""

    def __init__(self, pid: int) -> None:
        self._parent = psutil.Process(pid)
        self.pids = {child.pid for child in self._parent.children()}
        self.answered: set[int] = set()

    def note(self, answer: httpx.Response) -> None:
        """Take down who gave this answer; its connection must still be open."""
        port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
        self.answered |= {
            worker.pid
            for worker in self._parent.children()
            if any(at.raddr and at.raddr.port == port for at in worker.net_connections("tcp"))
        }
