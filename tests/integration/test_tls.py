"""Lookups by HTTPS and nodes by WSS, with a private authority: every SDK, and a node that dies."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringway.client_sdk import AsyncClient, Client, ConnectFailed
from tests.harness import node_ws
from tests.harness.cluster import Cluster
from tests.harness.waiting import wait_until
from tests.harness.zookeeper_java import Certificates

JS = Path(__file__).parents[1] / "js"
PROGRAM = """
    import WebSocket from "ws";
    import { Client } from "../../client_sdk/js/ringway.js";
    const client = new Client(process.argv[1], "bob", { WebSocket });
    await client.connect();
    console.log("ready");
    for await (const message of client) {
      if (message.body === "stop") break;
      await client.send(message.from, { echo: message.body });
    }
    await client.close();
"""


@pytest.fixture
def trust(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates.ca))


@pytest.fixture
def cluster(
    zookeeper: str, redis_url: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """Only the test and its clients know the authority; servers need not, to ask each other whether they live."""
    files = {"RINGWAY_TLS_CERT": str(certificates.cert), "RINGWAY_TLS_KEY": str(certificates.key)}
    system = ssl.get_default_verify_paths().openssl_cafile
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    env = {**files, "SSL_CERT_FILE": system}
    with Cluster(zookeeper=zookeeper, redis=redis_url, nodes=2, lookups=1, env=env) as running:
        yield running


def test_every_url_is_a_secure_one_and_a_living_node_is_not_passed_over(cluster: Cluster) -> None:
    """The lookup asks nodes by HTTPS whether they live, at addresses that their certificates need not name."""
    assert cluster.url.startswith("https://")
    assert all(node.http.startswith("https://") for node in cluster.nodes.values())
    route = cluster.route("alice")
    assert route["url"].startswith("wss://127.0.0.1:")
    again = cluster.route("alice", avoid=route["node"])
    assert (again["node"], again["reason"]) == (route["node"], "route")


def test_what_a_client_must_bring(cluster: Cluster, certificates: Certificates) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        trust = ssl.create_default_context(cafile=str(certificates.ca))
        trust.minimum_version = trust.maximum_version = version
        with Client(cluster.url, "alice", ssl=trust) as alice:
            alice.send("alice", "hello").result(10)
    stranger = Client(cluster.url, "alice", ssl=ssl.create_default_context(cafile=cluster.env["SSL_CERT_FILE"]))
    try:
        with pytest.raises(ConnectFailed, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.connect(timeout=3)
    finally:
        stranger.close()


def test_the_blocking_and_the_asyncio_client(cluster: Cluster, trust: ssl.SSLContext) -> None:
    async def echo() -> None:
        async with AsyncClient(cluster.url, "bob", ssl=trust) as bob:
            message = await bob.receive(10)
            await bob.send(message.from_, {"echo": message.body}).result(10)

    with Client(cluster.url, "alice", ssl=trust) as alice:
        alice.send("bob", "hello").result(10)
        asyncio.run(echo())
        assert alice.receive(10).body == {"echo": "hello"}


def test_the_javascript_client(cluster: Cluster, trust: ssl.SSLContext, certificates: Certificates) -> None:
    node = node_ws.node()
    node_ws.packages()
    command = [node, "--input-type=module", "-e", PROGRAM, cluster.url]
    env = {**os.environ, "NODE_EXTRA_CA_CERTS": str(certificates.ca)}
    with (
        subprocess.Popen(command, cwd=JS, env=env, stdout=subprocess.PIPE, text=True) as program,
        Client(cluster.url, "alice", ssl=trust) as alice,
    ):
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "ready\n"
            alice.send("bob", "hello").result(10)
            assert alice.receive(10).body == {"echo": "hello"}
            alice.send("bob", "stop").result(10)
            assert program.wait(10) == 0
        finally:
            program.kill()


def test_a_client_of_a_killed_node_goes_on_at_the_other(cluster: Cluster, trust: ssl.SSLContext) -> None:
    with Client(cluster.url, "alice", ssl=trust) as alice:
        old = alice.node
        assert old is not None
        cluster.nodes[old].kill()
        wait_until(lambda: alice.node != old, 10)
        alice.send("alice", "still here").result(10)
        assert alice.receive(10).body == "still here"
