"""A new user's whole way, on `ringway dev` as `make demo` starts it: route, open, talk, a fourth node, a dead node."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websockets

from ringway.client_sdk import Client
from tests.harness import web
from tests.harness.browser import Browser, needs_chromium
from tests.harness.dev import Dev
from tests.harness.node_ws import node_ws
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
RINGWAY = [sys.executable, "-c", "from ringway.cli import main; main()"]
ODD_UIDS = ["用户7", "a&b#c+d/e", "%41", "x" * 256, "🦊", "a b", "+"]

# What a page without an SDK does: ask, open, talk. Messages gather in window.got.
BOB = """
window.got = [];
return fetch(arguments[0] + '/route?uid=bob').then(r => r.json()).then(route => new Promise((done, failed) => {
  window.ws = new WebSocket(route.url);
  ws.onclose = e => failed(e.code);
  ws.onmessage = e => {
    const frame = JSON.parse(e.data);
    if (frame.t === 'welcome') done(frame);
    if (frame.t === 'msg') window.got.push(frame);
  };
}));
"""


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with Dev() as cluster:
        wait_until(lambda: len(active(cluster)) == 3, 30.0)
        yield cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as window:
        yield window


def active(dev: Dev) -> set[str]:
    members = web.get(f"{dev.lookup}/ring").json()["members"]
    return {member["id"] for member in members if member["state"] == "active"}


def route(dev: Dev, uid: str) -> dict[str, Any]:
    answer = web.get(f"{dev.lookup}/route", params={"uid": uid})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def on_another_node(dev: Dev, than: str) -> str:
    """A uid whose owner is not the owner of `than`."""
    there = route(dev, than)["node"]
    return next(uid for uid in (f"alice-{n}" for n in range(100)) if route(dev, uid)["node"] != there)


async def first_frame(url: str) -> dict[str, Any]:
    async with websockets.connect(url) as ws:
        return dict(json.loads(await ws.recv()))


def test_curl_answers_with_a_url_that_opens(dev: Dev) -> None:
    curl = ["curl", "-sS", f"{dev.lookup}/route?uid=alice"]
    answer = json.loads(subprocess.run(curl, capture_output=True, check=True, text=True).stdout)
    welcome = asyncio.run(first_frame(answer["url"]))
    assert (welcome["t"], welcome["uid"], welcome["node"]) == ("welcome", "alice", answer["node"])


@pytest.mark.parametrize("uid", ODD_UIDS, ids=lambda uid: uid[:8])
def test_odd_uids_have_one_owner_on_every_path(dev: Dev, uid: str) -> None:
    by_get = json.loads(web.get(f"{dev.lookup}/route?uid={quote(uid, safe='')}").text)
    by_post = web.post(f"{dev.lookup}/routes", json={"uids": [uid]}).json()["routes"][0]
    welcome = asyncio.run(first_frame(by_get["url"]))
    with Client(dev.lookup, uid) as client:
        assert {by_get["node"], by_post["node"], welcome["node"], client.node} == {by_get["node"]}
    assert welcome["uid"] == by_get["uid"] == by_post["uid"] == uid


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_url_opens_with_the_ws_package_of_node(dev: Dev) -> None:
    script = (
        f"import WebSocket from {json.dumps(str(node_ws()))};"
        "const ws = new WebSocket(process.argv[1]);"
        "ws.on('message', data => { console.log(String(data)); ws.close(1000); });"
        "ws.on('close', code => process.exit(code === 1000 ? 0 : 1));"
    )
    command = ["node", "--input-type=module", "-e", script, route(dev, "carol")["url"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["uid"] == "carol"


@needs_chromium
@pytest.mark.browser
def test_alice_by_the_python_sdk_and_bob_in_a_browser_talk_across_nodes(dev: Dev, browser: Browser) -> None:
    alice = on_another_node(dev, than="bob")
    browser.open(f"{dev.lookup}/livez")
    welcome = browser.run(BOB, dev.lookup)
    with Client(dev.lookup, alice) as client:
        assert client.node != welcome["node"]
        client.send("bob", {"text": "hello"}).result(10.0)
        got = wait_until(lambda: browser.run("return window.got"), 10.0)
        assert [(frame["from"], frame["body"]) for frame in got] == [(alice, {"text": "hello"})]
        browser.run("ws.send(JSON.stringify({t: 'send', id: 'b1', to: arguments[0], body: 'hi'}))", alice)
        answer = client.receive(10.0)
        assert (answer.from_, answer.body) == ("bob", "hi")


def test_a_fourth_node_joins_and_only_its_own_users_move(dev: Dev) -> None:
    uids = [f"user-{n}" for n in range(60)]
    before = {uid: route(dev, uid)["node"] for uid in uids}
    clients = [Client(dev.lookup, uid) for uid in uids]
    try:
        for client in clients:
            client.connect()
        fourth = dev.start_beside("fourth", [*RINGWAY, "node", "--node-id", "fourth"])
        fourth.wait_line("ringway node fourth ready", 30.0)
        wait_until(lambda: "fourth" in active(dev), 20.0)
        after = {uid: route(dev, uid)["node"] for uid in uids}
        moved = {uid for uid in uids if after[uid] != before[uid]}
        assert moved
        assert {after[uid] for uid in moved} == {"fourth"}
        wait_until(lambda: {client.uid: client.node for client in clients} == after, 30.0)
        fourth.send(signal.SIGTERM)
        assert fourth.wait(60.0)
        assert fourth.popen.returncode == 0
        wait_until(lambda: {client.uid: client.node for client in clients} == before, 30.0)
    finally:
        for client in clients:
            client.close()


def test_kill_9_of_a_node_brings_its_clients_to_the_next_one(dev: Dev) -> None:
    victim = route(dev, "dave")["node"]
    with Client(dev.lookup, "dave") as client:
        os.kill(dev.pid_of(victim), signal.SIGKILL)
        dev.wait_for(f"{victim} .*was killed by SIGKILL")
        wait_until(lambda: client.node not in ("", victim), 15.0)
        with Client(dev.lookup, "erin") as other:
            other.send("dave", "still there?").result(10.0)
            assert client.receive(10.0).body == "still there?"
    assert Path(f"/proc/{dev.child.pid}").exists()
