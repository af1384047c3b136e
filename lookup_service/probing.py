"""Asking nodes whether they live, beside the publisher's loop: a probe may take a second, the loop must not."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ringway.zookeeper.guards import ProbeRequest
from ringway.zookeeper.probe import Probe
from ringway.zookeeper.runtime import Runtime

log = logging.getLogger(__name__)

TASKS = 64  # at once, at most; each takes its share of the requests


class Probing:
    """`ask` and go on; `wake` is called when there are `answers`."""

    def __init__(self, runtime: Runtime, probe: Probe, wake: Callable[[], object]) -> None:
        self._runtime, self._probe, self._wake = runtime, probe, wake
        self._answers: deque[tuple[str, bool]] = deque()

    def ask(self, requests: Sequence[ProbeRequest]) -> None:
        for start in range(min(TASKS, len(requests))):
            self._runtime.spawn(self._run, requests[start::TASKS])

    def answers(self) -> Iterator[tuple[str, bool]]:
        """The answers that came since the last call: node id, alive."""
        while self._answers:
            yield self._answers.popleft()

    def _run(self, requests: Sequence[ProbeRequest]) -> None:
        for request in requests:
            if not self._runtime.guard(partial(self._ask_one, request), log, f"probing {request.node}"):
                self._answers.append((request.node, False))
        self._wake()

    def _ask_one(self, request: ProbeRequest) -> None:
        self._answers.append((request.node, self._probe(request.http, request.boot_id)))
