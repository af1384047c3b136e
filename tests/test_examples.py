"""The examples work as their texts say."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from ringway.client_sdk import Client, FrameRefused
from tests.harness import web
from tests.harness.browser import Browser, needs_chromium
from tests.harness.dev import Dev
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def chat() -> Iterator[Dev]:
    with Dev("--nodes", "2", "--app", "examples.chat.app:setup") as cluster:
        yield cluster


def some_node(chat: Dev) -> str:
    """The HTTP base of a node."""
    return str(web.get(f"{chat.lookup}/ring").json()["members"][0]["http"])


@needs_chromium
@pytest.mark.browser
def test_a_page_and_a_python_client_chat(chat: Dev) -> None:
    page = f"{some_node(chat)}/chat?{urlencode({'uid': 'alice', 'lookup': chat.lookup})}"
    with Browser() as browser, Client(chat.lookup, "bob", groups=["lobby"]) as bob:
        browser.open(page)

        def log() -> str:
            return str(browser.run("return document.getElementById('log').innerText"))

        wait_until(lambda: "open" in browser.run("return document.getElementById('state').innerText"), 15.0)
        browser.run("document.forms[0].text.value = 'hello all'; document.forms[0].requestSubmit()")
        texts = (bob.receive(10.0).body.get("text") for _ in range(10))  # comings and goings are in between
        assert "hello all" in texts
        bob.send("alice", {"text": "psst"}).result(10.0)
        wait_until(lambda: "bob (private): psst" in log(), 10.0)
        wait_until(lambda: "alice: hello all" in log(), 10.0)
        browser.open("about:blank")
        bob.publish("lobby", {"text": "while she was away"}).result(10.0)
        browser.open(page)
        wait_until(lambda: "bob: while she was away" in log(), 15.0)
        assert "hello all" not in log()  # she had read it before


def test_the_bot_answers_and_nobody_speaks_elsewhere(chat: Dev) -> None:
    with Client(chat.lookup, "carol") as carol:
        carol.send("bot", {"text": "where am I?"}).result(10.0)
        assert carol.receive(10.0).body == {"text": f"carol, you are on {carol.node}"}
        with pytest.raises(FrameRefused, match="forbidden"):
            carol.join("another room").result(10.0)


def test_flask_routes_are_on_the_nodes_port(chat: Dev) -> None:
    said = web.get(f"{some_node(chat)}/chat/here").json()
    assert said["node"] in {"node-1", "node-2"}
