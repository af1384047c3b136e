"""Asking a node itself whether it lives."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from ringway.zookeeper.probe import livez
from tests.lookup_service.registered import LiveZ

ASK = "import sys; from ringway.zookeeper.probe import livez; print(livez(sys.argv[1]))"


def test_a_node_that_stays_dead_is_said_once_and_again_after_it_lived(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ringway.zookeeper.probe")
    one, other = LiveZ(), LiveZ()
    one.stop()
    other.stop()
    assert not any(livez(node.url) for node in (one, other) for _ in range(20))
    assert [record.args[0] for record in caplog.records if record.args] == [one.url, other.url]  # type: ignore[index]
    one.start()
    assert livez(one.url)
    one.stop()
    assert not livez(one.url)
    assert len(caplog.records) == 3


def test_a_node_is_asked_directly_whatever_proxy_the_environment_names() -> None:
    """In a process of its own: urllib reads these variables when it is first used."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:1")
    node = LiveZ()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, node.url], env=os.environ | proxies, capture_output=True, text=True, check=True
        )
    finally:
        node.stop()
    assert done.stdout == "True\n"
