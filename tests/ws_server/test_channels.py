"""A channel against a model of the log, with notices delayed, lost, doubled and out of order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from ringway.core.frames import Position
from ringway.ws_server.channels import HELD_LIMIT, Channel, Step


@dataclass(eq=False)
class Reader:
    """A session that writes down what it gets; `space` is how many frames its queue takes."""

    got: list[bytes] = field(default_factory=list)
    space: int = 1 << 30

    def send_frame(self, wire: bytes) -> None:
        self.got.append(wire)
        self.space -= 1

    def room(self) -> int:
        return self.space

    @property
    def messages(self) -> list[Position]:
        """In a world of several gens: those it got, without what it was told of positions."""
        return [Position(chr(wire[0]), int(wire[1:])) for wire in self.got if b" " not in wire]


@dataclass(frozen=True)
class Log:
    """A page of the model log."""

    gen: str
    seq: int
    recovered: bool
    frames: Sequence[tuple[int, bytes]]
    more: bool

    def position_frame(self, ch: str, seq: int) -> bytes:
        return f"{ch} at {self.gen}:{seq} {'whole' if self.recovered else 'torn'}".encode()


def wire(seq: int, gen: str = "m") -> bytes:
    return f"{gen}{seq}".encode()


def page(head: int, after: int, *, limit: int = 1000, gen: str = "g", recovered: bool = True) -> Log:
    last = min(head, after + limit)
    return Log(gen, head, recovered, [(s, wire(s)) for s in range(after + 1, last + 1)], last < head)


def live(channel: Channel, seq: int = 0) -> Reader:
    reader = Reader()
    channel.join(reader)
    assert channel.page(reader, page(seq, seq)) is Step.LIVE
    return reader


def numbers(reader: Reader) -> list[int]:
    return [int(w[1:]) for w in reader.got]


def test_a_live_session_gets_each_message_once_and_in_order() -> None:
    channel = Channel("u:a")
    reader = live(channel)
    assert all(channel.offer("g", seq, wire(seq)) for seq in (1, 2, 2, 1, 3))
    assert numbers(reader) == [1, 2, 3]


def test_a_gap_is_read_from_the_log_before_what_came_early() -> None:
    channel = Channel("u:a")
    reader = live(channel)
    assert not channel.offer("g", 3, wire(3))
    assert reader.got == []
    assert channel.pulled(page(3, 0)) is Step.LIVE
    assert numbers(reader) == [1, 2, 3]


def test_the_missing_message_closes_the_gap_itself() -> None:
    channel = Channel("u:a")
    reader = live(channel)
    assert not channel.offer("g", 2, wire(2))
    assert channel.offer("g", 1, wire(1))
    assert numbers(reader) == [1, 2]


def test_a_channel_lacks_what_lies_beyond_its_position_in_the_order_of_gens() -> None:
    channel = Channel("u:a")
    assert not channel.lacks(Position("g", 9))  # nobody listens
    live(channel, 3)
    wanted = {Position("g", 3): False, Position("g", 4): True, Position("f", 9): False, Position("h", 1): True}
    assert {at: channel.lacks(at) for at in wanted} == wanted


def test_what_arrives_during_the_catch_up_comes_after_the_history() -> None:
    channel = Channel("u:a")
    first = live(channel, 3)
    late = Reader()
    channel.join(late)
    channel.offer("g", 4, wire(4))
    assert channel.page(late, page(3, 0)) is Step.LIVE
    channel.offer("g", 5, wire(5))
    assert (numbers(late), numbers(first)) == ([1, 2, 3, 4, 5], [4, 5])


def test_a_read_that_ran_ahead_of_the_notices_makes_the_channel_read_too() -> None:
    channel = Channel("u:a")
    first = live(channel, 3)
    ahead = Reader()
    channel.join(ahead)
    assert channel.page(ahead, page(5, 4)) is Step.PULL
    assert channel.pulled(page(5, 3)) is Step.LIVE
    assert [channel.advance(sink) for sink in channel.waiting()] == [Step.LIVE]
    channel.offer("g", 6, wire(6))
    assert (numbers(ahead), numbers(first)) == ([5, 6], [4, 5, 6])


def test_pages_of_two_sessions_may_come_in_the_other_order() -> None:
    """The later page brings the channel past a message whose notice came before anybody had caught up."""
    channel = Channel("u:a")
    first, second = Reader(), Reader()
    channel.join(first)
    before = page(3, 3)
    channel.offer("g", 4, wire(4))
    channel.join(second)
    assert channel.page(second, page(4, 4)) is Step.LIVE
    assert channel.page(first, before) is Step.READ
    assert channel.page(first, page(4, 3)) is Step.LIVE
    channel.offer("g", 5, wire(5))
    assert (numbers(first), numbers(second)) == ([4, 5], [5])


def test_notices_before_the_first_catch_up_are_not_lost() -> None:
    channel = Channel("u:a")
    reader = Reader()
    channel.join(reader)
    assert channel.offer("g", 4, wire(4))
    assert channel.page(reader, page(3, 1)) is Step.LIVE
    assert numbers(reader) == [2, 3, 4]


def test_history_waits_for_room_in_the_queue() -> None:
    channel = Channel("u:a")
    reader = Reader(space=2)
    channel.join(reader)
    assert channel.page(reader, page(5, 0)) is Step.SLOW
    reader.space = 9
    assert channel.advance(reader) is Step.LIVE
    assert numbers(reader) == [1, 2, 3, 4, 5]


def test_long_history_is_read_in_pages() -> None:
    channel = Channel("u:a")
    reader = Reader()
    channel.join(reader)
    assert channel.page(reader, page(5, 0, limit=3)) is Step.READ
    assert channel.reached(reader) == Position("g", 3)
    assert channel.page(reader, page(5, 3)) is Step.LIVE
    assert numbers(reader) == [1, 2, 3, 4, 5]


def test_more_than_is_held_during_a_catch_up_is_read_again() -> None:
    channel = Channel("u:a")
    first = live(channel)
    late = Reader()
    channel.join(late)
    total = HELD_LIMIT + 40
    for seq in range(1, total + 1):
        channel.offer("g", seq, wire(seq))
    assert channel.page(late, page(0, 0)) is Step.READ
    assert channel.page(late, page(total, 0)) is Step.LIVE
    assert numbers(late) == numbers(first) == list(range(1, total + 1))


def test_a_log_that_goes_on_as_another_incarnation_is_announced() -> None:
    channel = Channel("u:a")
    reader = live(channel, 7)
    assert not channel.offer("h", 8, wire(8))
    assert channel.pulled(page(8, 7, gen="h")) is Step.LIVE
    assert reader.got == [b"u:a at h:7 whole", wire(8)]
    assert not channel.offer("g", 8, b"of the incarnation that is over")
    assert channel.pulled(page(8, 8, gen="h")) is Step.LIVE
    assert channel.offer("h", 9, wire(9))
    assert reader.got[2:] == [wire(9)]


def test_a_loss_is_not_passed_over_in_silence() -> None:
    channel = Channel("u:a")
    reader = live(channel, 7)
    assert channel.pulled(page(2, 0, gen="h", recovered=False)) is Step.LIVE
    assert reader.got == [b"u:a at h:0 torn", wire(1), wire(2)]
    assert channel.position == Position("h", 2)


def test_a_log_that_begins_anew_with_a_clock_that_is_behind_is_believed() -> None:
    """Redis was wiped, and what it calls the time now is before the gen that we know."""
    channel = Channel("u:a")
    reader = live(channel, 7)
    assert not channel.offer("g", 9, wire(9))
    assert channel.pulled(page(2, 0, gen="f", recovered=False)) is Step.READ
    assert channel.pulled(page(2, 2, gen="f")) is Step.LIVE
    assert reader.got == [b"u:a at f:0 torn", wire(1), wire(2)]
    assert channel.offer("f", 3, wire(3))
    assert reader.got[3:] == [wire(3)]
    assert channel.position == Position("f", 3)


def test_the_log_is_asked_about_a_message_of_an_incarnation_that_seems_to_be_over() -> None:
    channel = Channel("u:a")
    reader = live(channel, 7)
    assert not channel.offer("f", 1, wire(1))
    assert channel.pulled(page(7, 7)) is Step.LIVE
    assert reader.got == []
    assert channel.offer("g", 8, wire(8))


@pytest.mark.parametrize(("before", "after"), [("g", "h"), ("g", "f")])
def test_a_session_and_its_channel_that_read_different_incarnations_look_again(before: str, after: str) -> None:
    """First the channel, then the session: either may be the one that has not heard."""
    channel = Channel("u:a")
    live(channel, 5)
    ahead = Reader()
    channel.join(ahead)
    assert channel.page(ahead, page(2, 0, gen=after)) is Step.PULL
    assert channel.pulled(page(2, 0, gen=after, recovered=False)) is Step.LIVE
    assert [channel.advance(sink) for sink in channel.waiting()] == [Step.LIVE]
    late = Reader()
    channel.join(late)
    assert channel.page(late, page(5, 5, gen=before)) is Step.PULL
    assert channel.pulled(page(2, 2, gen=after)) is Step.LIVE
    assert [channel.advance(sink) for sink in channel.waiting()] == [Step.READ]
    assert channel.page(late, page(2, 0, gen=after, recovered=False)) is Step.LIVE
    assert late.got == [f"u:a at {after}:0 torn".encode(), wire(1), wire(2)]


def test_what_was_held_of_an_incarnation_that_is_over_is_not_passed_on() -> None:
    channel = Channel("u:a")
    live(channel, 5)
    late = Reader()
    channel.join(late)
    channel.offer("g", 6, wire(6))
    channel.pulled(page(1, 0, gen="h", recovered=False))
    assert channel.page(late, page(1, 0, gen="h")) is Step.LIVE
    assert late.got == [wire(1)]


def test_a_log_that_was_cut_during_the_catch_up_is_announced() -> None:
    channel = Channel("u:a")
    reader = Reader()
    channel.join(reader)
    assert channel.page(reader, page(9, 0, limit=3)) is Step.READ
    assert channel.page(reader, page(9, 6, recovered=False)) is Step.LIVE
    assert reader.got[3:] == [b"u:a at g:6 torn", wire(7), wire(8), wire(9)]


def test_one_that_caught_up_in_an_older_incarnation_reads_on() -> None:
    channel = Channel("u:a")
    live(channel, 5)
    late = Reader()
    channel.join(late)
    channel.pulled(page(5, 5, gen="h"))
    assert channel.page(late, page(5, 3)) is Step.PULL
    assert channel.pulled(page(5, 5, gen="h")) is Step.LIVE
    assert [channel.advance(sink) for sink in channel.waiting()] == [Step.READ]
    assert channel.page(late, page(5, 5, gen="h")) is Step.LIVE
    assert late.got == [wire(4), wire(5), b"u:a at h:5 whole"]


def test_the_last_to_leave_takes_the_position_along() -> None:
    channel = Channel("u:a")
    reader = live(channel, 4)
    channel.leave(reader)
    assert channel.position is None
    assert not channel
    assert live(channel, 9).got == []


def test_a_session_that_left_is_asked_for_nothing() -> None:
    channel = Channel("u:a")
    reader = Reader()
    channel.join(reader)
    channel.leave(reader)
    assert channel.page(reader, page(3, 0)) is Step.GONE
    assert channel.pulled(page(3, 0)) is Step.GONE


def test_a_volatile_message_goes_to_all_at_once() -> None:
    channel = Channel("u:a")
    first = live(channel)
    second = Reader()
    channel.join(second)
    channel.send(b"v")
    assert first.got == second.got == [b"v"]


class World:
    """A log, a channel, sessions that come and go, and reads and notices that take their time.

    The first reads of sessions go over connections of their own: their answers come in any order, between the others.
    `wipe` loses the log; the next one has a gen before or after all that there were.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.gens = ["m"]
        self.gen, self.head = "m", 0
        self.channel = Channel("u:a")
        self.notices: list[Position] = []
        self.reads: list[tuple[Reader | None, Position]] = []  # None: for the channel
        self.arriving: list[tuple[Reader, Log]] = []
        self.answers: list[tuple[Reader | None, Position, Log]] = []
        self.started: dict[Reader, Position] = {}

    def append(self) -> None:
        self.head += 1
        self.notices += [Position(self.gen, self.head)] * self.random.choice((0, 1, 1, 1, 1, 2))

    def wipe(self) -> None:
        if self.random.random() < 0.1 and len(self.gens) < 20:
            self.gen = chr(ord(max(self.gens)) + 1) if self.random.random() < 0.5 else chr(ord(min(self.gens)) - 1)
            self.gens.append(self.gen)
            self.head = 0
            asked, self.arriving = self.arriving, []
            for reader, _ in asked:  # their connection went with the server: they ask again
                if reader in self.started:
                    self.ask(reader)

    def notice(self) -> None:
        if self.notices:
            gen, seq = self.notices.pop(self.random.randrange(min(3, len(self.notices))))
            if self.channel and not self.channel.offer(gen, seq, wire(seq, gen)):
                self.pull()

    def pull(self) -> None:
        position = self.channel.position
        if not self.channel.pulling and position is not None:
            self.channel.pulling = True
            self.reads.append((None, position))

    def join(self) -> None:
        if len(self.started) < 8:
            reader = Reader()
            self.started[reader] = Position(self.gen, self.random.randint(0, self.head))
            self.channel.join(reader)
            self.ask(reader)

    def ask(self, reader: Reader) -> None:
        self.arriving.append((reader, self.page(self.started[reader], self.random.randint(1, 9))))

    def arrive(self) -> None:
        if self.arriving:
            reader, log = self.arriving.pop(self.random.randrange(len(self.arriving)))
            self.follow(reader, self.channel.page(reader, log))

    def leave(self) -> None:
        if self.channel.sinks and self.random.random() < 0.1:
            sink = self.random.choice(self.channel.sinks)
            assert isinstance(sink, Reader)
            self.channel.leave(sink)
            self.check(sink)
            del self.started[sink]

    def read(self) -> None:
        if self.reads:
            who, after = self.reads.pop(0)
            self.answers.append((who, after, self.page(after, self.random.randint(1, 9))))

    def page(self, after: Position, limit: int) -> Log:
        start = after.seq if after.gen == self.gen else 0
        last = min(self.head, start + limit)
        found = [(seq, wire(seq, self.gen)) for seq in range(start + 1, last + 1)]
        return Log(self.gen, self.head, after.gen == self.gen, found, last < self.head)

    def answer(self) -> None:
        if self.answers:
            who, after, log = self.answers.pop(0)
            if who is not None:
                self.follow(who, self.channel.page(who, log))
                return
            self.channel.pulling = False
            if self.channel.has_moved(after, log) or self.channel.pulled(log) is Step.READ:
                self.pull()
                return
            for sink in self.channel.waiting():
                assert isinstance(sink, Reader)
                self.follow(sink, self.channel.advance(sink))

    def follow(self, reader: Reader, step: Step) -> None:
        if step is Step.READ:
            at = self.channel.reached(reader)
            assert at
            self.reads.append((reader, at))
        elif step is Step.PULL:
            self.pull()

    def check(self, reader: Reader) -> None:
        """One incarnation after the other, each without a hole; from the start, or from the first of a new one."""
        started = self.started[reader]
        left: set[str] = set()
        gen, seq = started
        for message in reader.messages:
            if message.gen != gen:
                left.add(gen)
                gen, seq = message.gen, 0
            assert message.gen not in left
            assert message.seq == seq + 1
            seq = message.seq

    def settle(self) -> None:
        while self.notices:
            self.notice()
        for _ in range(1000):
            self.arrive()
            self.read()
            self.answer()
            if not self.reads and not self.answers and not self.arriving:
                if self.channel.position in (None, (self.gen, self.head)):
                    return
                self.pull()  # what the sweep does
        raise AssertionError("never settles")

    def has_all(self, reader: Reader) -> bool:
        gen, seq = self.started[reader]
        first = seq + 1 if gen == self.gen else 1
        return [at.seq for at in reader.messages if at.gen == self.gen] == list(range(first, self.head + 1))


@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_whatever_the_order_everybody_gets_everything_once(seed: int, wiped: bool) -> None:
    world = World(seed)
    steps = [world.append, world.append, world.notice, world.notice, world.join, world.leave, world.arrive, world.read,
             world.answer]
    for _ in range(400):
        world.random.choice([*steps, world.wipe] if wiped else steps)()
    world.settle()
    for reader in world.started:
        world.check(reader)
        assert world.has_all(reader)
