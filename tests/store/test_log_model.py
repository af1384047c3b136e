"""The log against a model of a few lines: any sequence of appends, reads, acks, restarts and losses gives the same."""

from __future__ import annotations

import json
import uuid
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ringway.core.frames import Position
from ringway.store.client import Client
from ringway.store.keys import Keys
from ringway.store.log import MessageLog
from tests.harness.logs import append

REMEMBERED = 16
CH = "u:bob"


class Over(NamedTuple):
    """An earlier incarnation: the seq up to which it survived, and the one up to which it is known to have gone."""

    survived: int
    known: int


@dataclass
class Model:
    """What Redis holds: the ids in the log, the gen, and what is known of earlier gens, the oldest first."""

    kept: list[str] = field(default_factory=list)
    gen: str = ""
    past: dict[str, Over] = field(default_factory=dict)

    def go_on_as(self, gen: str) -> None:
        if self.gen:
            ended = Over(len(self.kept), len(self.kept))
            self.past = dict([*self.past.items(), (self.gen, ended)][-REMEMBERED:])
        self.gen = gen

    def note(self, position: Position) -> None:
        """A node had this. Of an incarnation that Redis lost whole the one before says what survived."""
        if position.gen != self.gen:
            before = [over.survived for gen, over in self.past.items() if gen <= position.gen]
            over = self.past.get(position.gen) or Over(*(before[-1:] or [0]) * 2)
            self.past[position.gen] = over._replace(known=max(over.known, position.seq))
            self.past = dict(sorted(self.past.items()))

    def start(self, position: Position | None) -> tuple[int, bool]:
        """The seq after which a reader goes on, and whether nothing that is known to have been is missing there."""
        if position is None:
            return 0, True
        if position.gen == self.gen:
            return position.seq, True
        if position.gen not in self.past:
            return 0, False
        survived = self.past[position.gen].survived
        later = [over for gen, over in self.past.items() if gen >= position.gen]
        return min(position.seq, survived), position.seq <= survived and all(one.known == one.survived for one in later)


class LogMachine(RuleBasedStateMachine):
    """Three readers and the user's cursor keep positions of any age."""

    client: Any

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(f"m{uuid.uuid4().hex[:10]}")
        self.log = MessageLog(self.client, self.keys, grace_s=0.0)
        self.model, self.saved = Model(), (Model(), self.dump())
        self.stale = True  # the next touch finds another replication id, or nothing
        self.gens: set[str] = set()
        self.readers: list[Position | None] = [None] * 3
        self.cursor: Position | None = None

    @rule(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=8))
    def append(self, numbers: list[int]) -> None:
        done = append(self.log, *numbers, ch=CH)
        self.touched()
        for one in done:
            assert one.duplicate == (one.id in self.model.kept)
            if one.duplicate:
                assert self.model.kept[one.seq - 1] == one.id
            else:
                self.model.kept.append(one.id)
                assert (one.gen, one.seq) == (self.model.gen, len(self.model.kept))

    @rule(reader=st.integers(0, 2), limit=st.integers(0, 5), own=st.booleans())
    def read(self, reader: int, limit: int, own: bool) -> None:
        """`own`: it is a node."""
        entries = self.log.read(CH, self.readers[reader], limit=limit, own=own)
        self.touched()
        if own and (position := self.readers[reader]) is not None:
            self.model.note(position)
        start, recovered = self.model.start(self.readers[reader])
        head = len(self.model.kept)
        assert (entries.gen, entries.seq, entries.oldest) == (self.model.gen, head, 1)
        assert (entries.recovered, entries.pending) == (recovered, head - start)
        assert [seq for seq, _frame in entries.frames] == list(range(start + 1, min(start + limit, head) + 1))
        for seq, frame in entries.frames:
            fields = json.loads(frame)
            assert (fields["gen"], fields["seq"], fields["id"]) == (entries.gen, seq, self.model.kept[seq - 1])
        self.readers[reader] = Position(entries.gen, entries.frames[-1][0] if entries.frames else start)

    @rule(reader=st.integers(0, 2))
    def ack(self, reader: int) -> None:
        position = self.readers[reader]
        if position is not None:
            moved = self.log.ack("bob", CH, *position)
            assert moved == (self.cursor is None or position > self.cursor)
            self.cursor = max(position, self.cursor) if self.cursor else position

    @rule()
    def unread(self) -> None:
        count = self.log.unread("bob", [CH])[0]
        if self.model.gen:
            self.touched()
        assert count == len(self.model.kept) - self.model.start(self.cursor)[0]

    @rule()
    def restart(self) -> None:
        """Clean: nothing is lost."""
        if self.model.gen:
            self.client.hset(self.keys.meta(CH), "r", uuid.uuid4().hex[:16])
            self.stale = True

    @rule()
    def save(self) -> None:
        self.saved = (deepcopy(self.model), self.dump())

    @rule()
    def lose(self) -> None:
        """Redis comes back as it was at the last `save`."""
        self.model = deepcopy(self.saved[0])
        for key, value in self.saved[1].items():
            self.client.delete(key)
            if value is not None:
                self.client.restore(key, 0, value)
        self.stale = True
        self.restart()

    @rule(numbers=st.lists(st.integers(31, 60), min_size=1, max_size=8), reader=st.integers(0, 2))
    def lose_what_a_reader_has_had(self, numbers: list[int], reader: int) -> None:
        self.save()
        self.append(numbers)
        self.read(reader, 100, own=False)
        self.lose()

    @invariant()
    def the_head_is_the_last_message(self) -> None:
        head = self.log.heads([CH])[0]
        assert (head.seq if head else 0) == len(self.model.kept)

    def touched(self) -> None:
        """A script ran: it made a new incarnation if there was reason, under a gen that was never used."""
        head = self.log.heads([CH])[0]
        assert head is not None
        assert (head.gen != self.model.gen) == self.stale
        if self.stale:
            assert head.gen not in self.gens
            self.gens.add(head.gen)
            self.model.go_on_as(head.gen)
            self.stale = False

    def dump(self) -> dict[str, bytes | None]:
        names = self.keys.of_log(CH)
        return {name: self.client.dump(name) for name in names}


def test_any_sequence_agrees_with_the_model(client: Client) -> None:
    machine = type("Machine", (LogMachine,), {"client": client})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck),
    ))  # fmt: skip
