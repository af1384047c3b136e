from __future__ import annotations

import logging

import pytest

from ringway.zookeeper.probe import livez
from tests.lookup_service.registered import LiveZ


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
