"""What a client says and hears, without a socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ringway.client_sdk.conversation import Behind, Conversation, Happening, Held, Joined, Message
from ringway.client_sdk.positions import Gap
from ringway.core.errors import ClientClosed, FrameRefused, InvalidInput, RingwayError, Unavailable
from ringway.core.frames import FRAME_LIMIT, Position, parse_client_frame

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "conversation.json").read_text())
INBOX = {"gen": "g", "seq": 0, "unread": 0, "recovered": True}


class Note:
    """A receipt that remembers."""

    def __init__(self, id: str = "m1", *, awaited: bool = False) -> None:
        self.id, self.answer, self.awaited = id, "", awaited
        self.error: RingwayError | None = None

    def settle(self, result: Any) -> None:
        self.answer = f"ok {result}"

    def fail(self, error: RingwayError) -> None:
        self.error = error


def talk(*, opened: bool = True, **options: Any) -> Conversation[Note]:
    conversation: Conversation[Note] = Conversation("alice", outbox_limit=10, **options)
    if opened:
        conversation.opened(INBOX, now=0)
    return conversation


def msg(seq: int, ch: str = "u:alice", gen: str = "g", **more: Any) -> dict[str, Any]:
    return {"t": "msg", "ch": ch, "gen": gen, "seq": seq, "id": f"m{seq}", "from": "bob", "body": seq, "ts": 1, **more}


def said(texts: list[str]) -> list[str]:
    return [json.loads(text)["t"] for text in texts]


class Told(Note):
    """A receipt that adds its answer to those of the step."""

    def __init__(self, name: str, answers: dict[str, str], *, awaited: bool = False) -> None:
        super().__init__(name, awaited=awaited)
        self._answers = answers

    def settle(self, result: Any) -> None:
        assert self.id not in self._answers
        self._answers[self.id] = "ok"

    def fail(self, error: RingwayError) -> None:
        assert self.id not in self._answers
        self._answers[self.id] = type(error).__name__


class Scene:
    """Carries out the steps of a shared scenario."""

    def __init__(self, saved: dict[str, str]) -> None:
        self.talk: Conversation[Note] = Conversation("alice", outbox_limit=10, saved=saved)
        self.answers: dict[str, str] = {}

    def run(self, step: dict[str, Any]) -> dict[str, Any]:
        """What came of it, in the words of the vectors."""
        self.answers.clear()
        says, tells, gives = getattr(self, f"do_{step['do']}")(step)
        for text in says if "wrote" in step else ():
            self.talk.outbox.wrote(text, step["wrote"])
        got = {"says": [json.loads(text) for text in says], "tells": [plain(each) for each in tells],
               "settles": {**self.answers}, "gives": gives}
        return {name: value for name, value in got.items() if value or name in step}

    def do_open(self, step: dict[str, Any]) -> Any:
        texts, told = self.talk.opened(step["inbox"], now=step.get("now", 0), dedup_s=step.get("dedup_s", 3600))
        return texts, told, None

    def do_send(self, step: dict[str, Any]) -> Any:
        receipt = Told(step["receipt"], self.answers, awaited=step.get("waits", False))
        return self.talk.send("bob", 1, receipt, id=step["id"]), [], None

    def do_again(self, step: dict[str, Any]) -> Any:
        texts, told = self.talk.again(step["now"])
        return texts, told, None

    def do_join(self, step: dict[str, Any]) -> Any:
        at = step.get("from")
        receipt = Told(step["receipt"], self.answers)
        return self.talk.join(step["group"], receipt, Position(**at) if at else None), [], None

    def do_leave(self, step: dict[str, Any]) -> Any:
        return self.talk.leave(step["group"]), [], None

    def do_hear(self, step: dict[str, Any]) -> Any:
        return [], self.talk.hear(step["frame"]), None

    def do_lost(self, step: dict[str, Any]) -> Any:
        self.talk.lost(step["code"])
        return [], [], None

    def do_finish(self, step: dict[str, Any]) -> Any:
        self.talk.positions.finish(*step["args"])
        return [], [], None

    def do_acks(self, step: dict[str, Any]) -> Any:
        return self.talk.acks(), [], None

    def do_saved(self, step: dict[str, Any]) -> Any:
        return [], [], self.talk.positions.saved()


def plain(happening: Happening) -> Sequence[Any]:
    match happening:
        case Message():
            return ["message", happening.ch, happening.seq]
        case Gap():
            return ["gap", happening.ch, happening.oldest]
        case Behind(ch):
            return ["behind", ch]
        case Held():
            return ["held"]
    return ["error", type(happening).__name__]


@pytest.mark.parametrize("scenario", VECTORS, ids=lambda scenario: scenario["name"])
def test_scenario(scenario: dict[str, Any]) -> None:
    scene = Scene(scenario["saved"])
    for number, step in enumerate(scenario["steps"]):
        if "throws" in step:
            with pytest.raises(InvalidInput) as caught:
                scene.run(step)
            assert caught.value.field == step["throws"]
            continue
        wanted = {name: step[name] for name in ("says", "tells", "settles", "gives") if name in step}
        assert scene.run(step) == wanted, f"step {number}: {step['do']}"


def test_every_frame_it_says_is_one_the_node_parses() -> None:
    conversation = talk()
    texts = [
        *conversation.send("bob", {"x": 1}, Note("m1"), id="m1"),
        *conversation.send(["bob", "eve"], None, Note("m2"), id="m2", volatile=True),
        *conversation.publish("room", [1], Note("m3"), id="m3"),
        *conversation.broadcast("all", Note("m4"), id="m4"),
        *conversation.join("room", Note()), *conversation.join("hall", Note(), Position("g", 4)),
        *conversation.leave("hall"),
    ]
    conversation.positions.finish("u:alice", "g", 3)
    texts += conversation.acks()
    kinds = [type(parse_client_frame(text)).__name__ for text in texts]
    assert kinds == ["Send", "Send", "Publish", "Broadcast", "Join", "Join", "Leave", "Ack"]


def test_a_broadcast_is_volatile_it_neither_waits_nor_is_said_again() -> None:
    conversation, note = talk(opened=False), Note()
    with pytest.raises(Unavailable):
        conversation.broadcast(1, note, id="m1")
    conversation.opened(INBOX, now=0)
    assert said(conversation.broadcast(1, note, id="m1")) == ["broadcast"]
    conversation.lost(1006)
    assert isinstance(note.error, Unavailable)
    assert conversation.opened(INBOX, now=0)[0] == []


def test_ids_differ_between_messages_and_between_clients() -> None:
    one, other = talk(), talk()
    assert len({one.new_id(), one.new_id(), other.new_id(), other.new_id()}) == 4


def test_what_is_said_without_a_connection_is_said_on_the_next_one_joins_first() -> None:
    conversation = talk(opened=False)
    assert not conversation.send("bob", 1, Note("m1"), id="m1")
    assert not conversation.join("room", Note())
    assert not conversation.publish("room", 2, Note("m2"), id="m2")
    texts, told = conversation.opened(INBOX, now=0)
    assert said(texts) == ["join", "send", "publish"]
    assert not told


def test_what_had_no_ok_is_said_again_with_the_same_id_after_each_loss() -> None:
    conversation, note = talk(), Note()
    first = conversation.send("bob", 1, note, id="m1")
    conversation.lost(1006)
    assert conversation.opened(INBOX, now=0)[0] == first
    conversation.hear({"t": "ok", "id": "m1", "seq": 4})
    assert note.answer == "ok 4"
    assert conversation.opened(INBOX, now=0)[0] == []
    conversation.hear({"t": "ok", "id": "m1", "seq": 4})  # the one of the old connection, after a move


def test_a_volatile_message_fails_when_its_connection_breaks_and_is_not_said_again() -> None:
    conversation, note = talk(), Note()
    conversation.send("bob", 1, note, id="m1", volatile=True)
    conversation.lost(1006)
    assert isinstance(note.error, Unavailable)
    assert conversation.opened(INBOX, now=0)[0] == []


def test_a_volatile_message_without_a_connection_is_refused_at_once() -> None:
    with pytest.raises(Unavailable, match="not connected"):
        talk(opened=False).send("bob", 1, Note(), id="m1", volatile=True)


def test_a_message_that_cannot_fit_a_frame_is_refused_before_it_is_kept() -> None:
    conversation = talk()
    with pytest.raises(InvalidInput, match="must fit a frame of 65536 bytes"):
        conversation.send("bob", "x" * FRAME_LIMIT, Note(), id="m1")
    assert not len(conversation.outbox)


def test_the_largest_message_is_given_up_when_the_node_closes_over_the_size() -> None:
    conversation, small, large = talk(), Note("m1"), Note("m2")
    conversation.send("bob", 1, small, id="m1")
    conversation.send("bob", "x" * 1000, large, id="m2")
    conversation.lost(1009)
    assert isinstance(large.error, FrameRefused)
    assert said(conversation.opened(INBOX, now=0)[0]) == ["send"]


@pytest.mark.parametrize("uid", ["", "x" * 257, "a\nb"])
def test_a_uid_that_cannot_be_is_refused_here(uid: str) -> None:
    with pytest.raises(InvalidInput):
        talk().send(uid, 1, Note(), id="m1")


def test_a_refused_message_ends_with_the_nodes_words() -> None:
    conversation, note = talk(), Note()
    conversation.send("bob", 1, note, id="m1")
    assert not conversation.hear({"t": "error", "id": "m1", "code": "forbidden", "message": "not you"})
    assert isinstance(note.error, FrameRefused)
    assert note.error.code == "forbidden"
    assert conversation.opened(INBOX, now=0)[0] == []


def test_an_unavailable_log_holds_everything_back_and_then_says_it_in_order() -> None:
    conversation, note = talk(), Note()
    conversation.send("bob", 1, note, id="m1")
    (held,) = conversation.hear({"t": "error", "id": "m1", "code": "unavailable", "message": "redis is away"})
    assert isinstance(held, Held)
    assert not conversation.send("bob", 2, Note("m2"), id="m2")
    assert said(conversation.send("bob", 3, Note("m3"), id="m3", volatile=True)) == ["send"]
    assert [json.loads(text)["id"] for text in conversation.again(0)[0]] == ["m1", "m2"]
    assert note.error is None


def test_a_second_copy_that_is_refused_after_the_ok_is_no_error() -> None:
    conversation, note = talk(), Note()
    conversation.send("bob", 1, note, id="m1")
    conversation.hear({"t": "ok", "id": "m1", "seq": 1})
    assert conversation.hear({"t": "error", "id": "m1", "code": "unavailable", "message": "another one first"}) == ()
    assert not conversation.held
    assert note.answer == "ok 1"


def test_each_message_is_heard_once_whichever_connection_brings_it() -> None:
    conversation = talk()
    heard = [happening for seq in (1, 2, 1, 3, 2, 3) for happening in conversation.hear(msg(seq))]
    assert [each.seq for each in heard if isinstance(each, Message)] == [1, 2, 3]


def test_volatile_messages_have_no_place_and_are_heard_as_they_come() -> None:
    frame = {"t": "msg", "ch": "g:room", "id": "v", "from": "bob", "body": 1, "ts": 1}
    (message,) = talk().hear(frame)
    assert isinstance(message, Message)
    assert (message.gen, message.seq, message.group) == (None, None, "room")


def test_the_inbox_goes_on_where_it_was() -> None:
    conversation = talk(opened=False)
    assert conversation.url("ws://n1/ws?ticket=t") == "ws://n1/ws?ticket=t"
    conversation.opened(INBOX, now=0)
    conversation.hear(msg(1))
    assert conversation.url("ws://n1/ws?ticket=t") == "ws://n1/ws?ticket=t&inbox=g:1"


def test_a_first_connection_that_brought_nothing_still_marks_the_place() -> None:
    conversation = talk(opened=False)
    conversation.opened({"gen": "g", "seq": 9, "unread": 4, "recovered": True}, now=0)
    assert conversation.url("ws://n1/ws") == "ws://n1/ws?inbox=g:5"


def test_a_lost_stretch_of_the_inbox_is_reported_and_what_follows_is_heard() -> None:
    conversation = talk(saved={"u:alice": "g:3"}, opened=False)
    _, told = conversation.opened({"gen": "h", "seq": 7, "unread": 2, "recovered": False, "oldest": 6}, now=0)
    assert told == [Gap("u:alice", Position("g", 3), "h", 6)]
    assert isinstance(conversation.hear(msg(6, gen="h"))[0], Message)


def test_a_message_that_is_left_out_asks_for_a_new_connection() -> None:
    conversation = talk()
    conversation.hear(msg(1))
    assert list(conversation.hear(msg(3))) == [Behind("u:alice")]
    assert conversation.url("ws://n1/ws").endswith("inbox=g:1")


def test_a_message_that_was_appended_again_after_a_loss_is_heard_once() -> None:
    conversation = talk()
    conversation.hear(msg(1))
    conversation.hear(msg(2))
    lost = {"t": "position", "ch": "u:alice", "gen": "h", "seq": 0, "recovered": False, "oldest": 1}
    assert list(conversation.hear(lost)) == [Gap("u:alice", Position("g", 2), "h", 1)]
    assert not conversation.hear(msg(1, gen="h", was={"gen": "g", "seq": 2}))
    (message,) = conversation.hear(msg(2, gen="h", was={"gen": "g", "seq": 3}))
    assert isinstance(message, Message)


def test_groups_are_joined_again_from_their_places() -> None:
    conversation, note = talk(), Note("room")
    conversation.join("room", note)
    conversation.hear({"t": "joined", "group": "room", "gen": "g", "seq": 5, "unread": 0, "recovered": True})
    assert note.answer == f"ok {Joined('room', 'g', 5, 0, True, None)}"
    conversation.hear(msg(6, "g:room"))
    conversation.lost(1006)
    (text,) = conversation.opened(INBOX, now=0)[0]
    assert json.loads(text) == {"t": "join", "group": "room", "from": {"gen": "g", "seq": 6}}


def test_a_group_that_lost_its_log_is_reported() -> None:
    conversation = talk()
    conversation.hear(msg(6, "g:room"))
    answer = {"t": "joined", "group": "room", "gen": "new", "seq": 0, "unread": 0, "recovered": False}
    assert list(conversation.hear(answer)) == [Gap("g:room", Position("g", 6), "new", 1)]


def test_a_group_that_was_left_is_not_heard_nor_joined_again() -> None:
    conversation = talk()
    conversation.join("room", Note())
    conversation.leave("room")
    assert not conversation.hear(msg(1, "g:room"))
    assert said(conversation.opened(INBOX, now=0)[0]) == ["leave"]  # until the node has answered it
    conversation.hear({"t": "left", "group": "room"})
    assert said(conversation.opened(INBOX, now=0)[0]) == []


def test_a_group_that_the_node_joined_by_itself_is_kept() -> None:
    conversation = talk()
    conversation.hear({"t": "joined", "group": "old", "gen": "g", "seq": 5, "unread": 2, "recovered": True})
    assert said(conversation.opened(INBOX, now=0)[0]) == ["join"]


def test_a_refused_join_ends_its_receipt_and_is_not_tried_again() -> None:
    conversation, note = talk(), Note("secret")
    conversation.join("secret", note)
    frame = {"t": "error", "code": "forbidden", "message": "not you", "group": "secret"}
    assert not conversation.hear(frame)
    assert isinstance(note.error, FrameRefused)
    assert said(conversation.opened(INBOX, now=0)[0]) == []


def test_an_error_that_belongs_to_nobody_reaches_the_application() -> None:
    (error,) = talk().hear({"t": "error", "code": "bad_frame", "message": "what?"})
    assert isinstance(error, FrameRefused)


def test_frames_of_newer_nodes_mean_nothing() -> None:
    assert not talk().hear({"t": "weather", "sun": True})


def test_acks_go_out_once_and_again_on_the_next_connection() -> None:
    conversation = talk()
    conversation.positions.finish("u:alice", "g", 2)
    assert said(conversation.acks()) == ["ack"]
    assert not conversation.acks()
    assert said(conversation.opened(INBOX, now=0)[0]) == ["ack"]


def test_the_end_tells_everybody_who_waits() -> None:
    conversation, sent, joining = talk(), Note(), Note("room")
    conversation.send("bob", 1, sent, id="m1")
    conversation.join("room", joining)
    conversation.end(ClientClosed())
    assert isinstance(sent.error, ClientClosed)
    assert isinstance(joining.error, ClientClosed)
