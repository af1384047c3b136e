"""A part's own way to the servers of an ensemble, which can be cut without anybody else noticing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.harness.delays import DelayProxy


class Way:
    """A proxy for each server. What is on its way when they are cut arrives when they are mended, as with TCP."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._proxies = [DelayProxy(server) for server in servers]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for proxy in self._proxies:
            self._stack.enter_context(proxy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def env(self) -> dict[str, str]:
        """For the process whose way it is."""
        return {"RINGWAY_ZOOKEEPER": ",".join(proxy.address for proxy in self._proxies)}

    def cut(self) -> None:
        for proxy in self._proxies:
            proxy.cut()

    def mend(self) -> None:
        for proxy in self._proxies:
            proxy.mend()
