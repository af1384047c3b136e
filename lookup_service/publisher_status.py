"""What a publisher says of itself, and its log of what the guards decide."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ringway.core.members import RingDocument
from ringway.zookeeper.guards import Verdict

log = logging.getLogger(__name__)

ALARMS = ("forged", "corrupt", "lost", "fenced", "alg", "mirror", "flapping", "bad_record")


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """For /metrics and the dashboard.

    Attributes:
        elected: whether this process publishes, as far as anybody can know: False while it is cut off.
        document: the newest document that this process has seen.
        age_s: seconds without a connection to ZooKeeper, for which nobody can confirm it; 0.0 while connected.
        verdicts: what the guards say at present; empty on a process that is not elected.
        nodes: number of registered nodes by state, as last seen by the elected process.
        alarms: how often each of ALARMS happened.
        decisions: how often each (guard, action) came up.
    """

    elected: bool
    document: RingDocument | None
    age_s: float
    verdicts: tuple[Verdict, ...]
    nodes: Mapping[str, int]
    alarms: Mapping[str, int]
    decisions: Mapping[tuple[str, str], int]


class GuardLog:
    """Says each verdict once, when it begins.

    Attributes:
        standing: what the guards say now.
        decisions: how often each (guard, action) came up.
    """

    def __init__(self) -> None:
        self.standing: tuple[Verdict, ...] = ()
        self.decisions: Counter[tuple[str, str]] = Counter()

    def tell(self, verdicts: tuple[Verdict, ...]) -> None:
        before = {(v.guard, v.action, v.node) for v in self.standing}
        for verdict in verdicts:
            if (verdict.guard, verdict.action, verdict.node) not in before:
                self.decisions[verdict.guard, verdict.action] += 1
                log.log(logging.ERROR if verdict.alarm else logging.INFO, "guard %s: %s %s: %s",
                        verdict.guard, verdict.action, verdict.node or "all", verdict.reason)
        self.standing = verdicts
