"""The dashboard in a real browser."""

from __future__ import annotations

import pytest

from ringway.store.client import connect
from ringway.store.keys import Keys
from ringway.store.node_stats import NodeStats
from tests.harness.browser import Browser, needs_chromium
from tests.harness.waiting import wait_until
from tests.lookup_service.registered import Cluster

pytestmark = [needs_chromium, pytest.mark.browser]
HOSTILE = "<img src=x onerror=window.hurt=1>"


def test_it_shows_the_cluster_and_follows_it(zookeeper: str, redis_url: str, cluster_name: str) -> None:
    with Cluster(zookeeper, redis_url, cluster_name) as cluster, Browser() as browser:
        lookup = cluster.with_nodes("n1", "n2")
        redis = connect(redis_url)
        NodeStats(redis, Keys(cluster_name)).publish("n1", {"sessions": 1234}, ttl_s=60)
        redis.close()
        browser.open(f"{lookup.url}/")

        def text(selector: str) -> str:
            return str(browser.run(f"return document.querySelector({selector!r})?.innerText ?? ''"))

        wait_until(lambda: "n1" in text("#nodes") and "n2" in text("#nodes"))
        wait_until(lambda: text("#sessions") == "1,234")
        assert text("#live") == "live"
        assert text("#active") == "2"
        cluster.node("n3")
        wait_until(lambda: text("#active") == "3", message="the new node comes by itself")
        assert "+n3 active" in text("#events")
        cluster.nodes["n2"].close()
        wait_until(lambda: text("#active") == "2")
        assert "−n2" in text("#events")

        browser.run("document.querySelector('#route-form [name=uid]').value = arguments[0]", HOSTILE)
        browser.run("document.querySelector('#route-form button').click()")
        wait_until(lambda: HOSTILE in text("#route"))
        assert lookup.route(HOSTILE)["node"] in text("#route .headline")
        assert browser.run("return window.hurt ?? null") is None
        browser.run("document.querySelector('#route-form [name=uid]').value = 'x'.repeat(257)")
        browser.run("document.querySelector('#route-form button').click()")
        wait_until(lambda: "shorten it: it has 257 bytes" in text("#route"))

        browser.run("document.querySelector('#preview-form [name=add]').value = 'n4'")
        browser.run("document.querySelector('#preview-form button').click()")
        wait_until(lambda: "of all users would move" in text("#preview"))
        assert "n4" in text("#preview")
