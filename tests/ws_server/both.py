"""The compiled hot path and the Python one, for tests that run on both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ringway.ws_server import fast, wire
from ringway.ws_server.poller import CompiledPoller, EpollPoller, Poller, WatcherPoller

_needs_compiled = pytest.mark.skipif(fast.compiled is None, reason=f"not compiled: {fast.WHY}")

MakePoller = Callable[[Any, Any], Poller]

POLLERS = [
    pytest.param(CompiledPoller, id="compiled", marks=_needs_compiled),
    pytest.param(lambda loop, _traffic: EpollPoller(loop), id="epoll"),
    pytest.param(lambda loop, _traffic: WatcherPoller(loop), id="watchers"),
]

TAKERS = [
    pytest.param(getattr(fast.compiled, "take", None), id="compiled", marks=_needs_compiled),
    pytest.param(wire.python_take, id="python"),
]
