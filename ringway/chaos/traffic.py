"""Many SDK clients that talk to each other at a steady rate, every message booked in a ledger."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ringway.client_sdk import AsyncClient, AsyncReceipt, Gap, Message, SendBufferFull, State
from ringway.core.errors import ClientError, ClosedByServer, ConnectFailed

from .ledger import Ledger, Verdict

TICK_S = 0.02
OPENING_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Load:
    """How much: clients, messages a second to users and to groups, groups and their size, bytes of a body."""

    sessions: int = 2000
    user_rate: float = 1000.0
    group_rate: float = 200.0
    groups: int = 100
    group_size: int = 5
    body_bytes: int = 64
    seed: int = 1
    prefix: str = "chaos"


class Traffic:
    """`open()`, `talk()` as often as wanted, `settle()`, `verdict()`, `close()`."""

    def __init__(self, lookups: Iterable[str], load: Load, *, token: Callable[[str], str] | None = None) -> None:
        self.load = load
        self._random = random.Random(load.seed)
        # A name of its own for each run: the logs of an earlier one must not be taken for this one's.
        run = f"{load.prefix}-{time.time_ns():x}"
        self.uids = [f"{run}-u{i}" for i in range(load.sessions)]
        self.groups = {f"{run}-g{i}": self._random.sample(self.uids, min(load.group_size, load.sessions))
                       for i in range(load.groups)}
        self.ledger = Ledger({**{f"u:{uid}": [uid] for uid in self.uids},
                              **{f"g:{group}": members for group, members in self.groups.items()}})
        self._names = list(self.groups)
        self._body = "x" * load.body_bytes
        self._receipts: dict[str, AsyncReceipt] = {}
        self.causes: Counter[str] = Counter()  # of outages
        self.nodes_seen: dict[str, list[str]] = {uid: [] for uid in self.uids}
        memberships: dict[str, list[str]] = {uid: [] for uid in self.uids}
        for group, members in self.groups.items():
            for uid in members:
                memberships[uid].append(group)
        self.clients = {uid: self._client(tuple(lookups), uid, memberships[uid], token) for uid in self.uids}

    def _client(
        self, lookups: tuple[str, ...], uid: str, groups: list[str], token: Callable[[str], str] | None
    ) -> AsyncClient:
        mine = partial(token, uid) if token else None
        return AsyncClient(lookups, uid, groups=groups, token=mine, on_message=partial(self._on_message, uid),
                           on_state=partial(self._on_state, uid), on_gap=partial(self._on_gap, uid))

    def _on_message(self, uid: str, message: Message) -> None:
        if message.gen is not None and message.seq is not None:
            self.ledger.delivered(uid, message.ch, (message.gen, message.seq), message.id, time.monotonic())

    def _on_gap(self, uid: str, gap: Gap) -> None:
        self.ledger.gap(uid, gap.ch)

    def _on_state(self, uid: str, state: State, cause: ClientError | None) -> None:
        if state in (State.OPEN, State.MOVING):
            self.ledger.opened(uid, time.monotonic())
            seen, node = self.nodes_seen[uid], self.clients[uid].node
            if not seen or seen[-1] != node:
                seen.append(node)
        else:
            if self.ledger.closed(uid, time.monotonic()) and cause is not None:
                self.causes[_in_short(cause)] += 1

    def hops(self) -> dict[str, int]:
        """How often each client has changed its node since the start, or since `forget_hops`."""
        return {uid: len(seen) - 1 for uid, seen in self.nodes_seen.items() if seen}

    def forget_hops(self) -> None:
        self.nodes_seen = {uid: seen[-1:] for uid, seen in self.nodes_seen.items()}

    def open_now(self) -> int:
        """How many clients have an open connection."""
        return sum(client.state in (State.OPEN, State.MOVING) for client in self.clients.values())

    async def open(self, timeout_s: float = 120.0) -> None:
        """Connect all. Raises ConnectFailed."""
        gate = asyncio.Semaphore(OPENING_AT_ONCE)

        async def one(client: AsyncClient) -> None:
            async with gate:
                await client.connect(timeout=timeout_s)

        await asyncio.gather(*map(one, self.clients.values()))
        for uid in self.uids:  # from here on, being away is an outage
            self.ledger.opened(uid, time.monotonic())
        self.ledger.forget_outages()

    async def talk(self) -> None:
        """Send at the load's rates, whatever happens to the cluster, until cancelled."""
        last = time.monotonic()
        due = [0.0, 0.0]
        while True:
            now = time.monotonic()
            for kind, rate in enumerate((self.load.user_rate, self.load.group_rate)):
                due[kind] += (now - last) * rate
                for _ in range(int(due[kind])):
                    self._send(to_group=bool(kind))
                due[kind] %= 1
            last = now
            await asyncio.sleep(TICK_S)

    @property
    def unanswered(self) -> int:
        """Messages without an ok, as of the last `collect`."""
        return len(self._receipts)

    async def settle(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything has its ok and its readers, at most so long. Returns whether it came to that."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.collect()
            if not self._receipts and not self.ledger.owing and self.open_now() == len(self.clients):
                return True
            await asyncio.sleep(0.1)
        return False

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    def verdict(self) -> Verdict:
        self.collect()
        return self.ledger.verdict(time.monotonic())

    def _send(self, *, to_group: bool) -> None:
        target = self._random.choice(self._names if to_group else self.uids)
        sender = self._random.choice(self.groups[target] if to_group else self.uids)  # members may publish
        client = self.clients[sender]
        message = f"m{self.ledger.sent_count}"
        try:
            receipt = (client.publish if to_group else client.send)(target, self._body, id=message)
        except SendBufferFull:
            return  # the application was told, and nothing was sent
        self._receipts[message] = receipt
        self.ledger.sent(message, f"{'g' if to_group else 'u'}:{target}", sender, time.monotonic())

    def collect(self) -> None:
        """Book the answers that came since the last time."""
        now = time.monotonic()
        for message, receipt in [(m, r) for m, r in self._receipts.items() if r.done]:
            del self._receipts[message]
            if receipt.error is None:
                self.ledger.accepted(message, now)
            else:
                self.ledger.refused(message, str(getattr(receipt.error, "code", type(receipt.error).__name__)))


def _in_short(cause: ClientError) -> str:
    """The kind of an error, with its close code where it has one, and without names of users and nodes."""
    if isinstance(cause, ClosedByServer):
        return f"closed by the node with {cause.code}"
    if isinstance(cause, ConnectFailed):
        return "the connection broke"
    return type(cause).__name__
