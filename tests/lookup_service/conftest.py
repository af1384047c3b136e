"""A started lookup in this process, on the real ZooKeeper and Redis, and Flask's test client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.lookup_service.app import create_app
from ringway.lookup_service.config import LookupConfig
from ringway.lookup_service.services import Services
from ringway.lookup_service.softdown import SoftDownOptions
from ringway.options import Common
from ringway.zookeeper.guards import GuardOptions
from tests.harness.waiting import wait_until
from tests.lookup_service.registered import Cluster

QUICK = GuardOptions(debounce_s=0.05, join_delay_s=0.05)
API_KEY = "an-api-key-of-a-back-end"
MakeServices = Callable[..., Services]


def config(zookeeper: str, redis: str, cluster: str, **changes: Any) -> LookupConfig:
    common = Common(
        zookeeper=zookeeper, redis=redis, cluster=cluster, keys=KeyRing.parse(DEVELOPMENT_KEYS), alg="xxh64-v1",
        hash_key=None, zookeeper_timeout=4.0, zookeeper_ca=None, zookeeper_cert=None, zookeeper_key=None,
        zookeeper_digest=None, log_level="info",
    )  # fmt: skip
    values: dict[str, Any] = {
        "host": "127.0.0.1", "port": 0, "workers": 1, "auth": "development", "jwt_secret": None,
        "jwt_public_key": None, "jwt_audience": None, "jwt_issuer": None, "jwt_uid_claim": "sub", "api_keys": (),
        "origins": ("*",), "connects_per_node": 1e6, "guards": QUICK,
        "softdown": SoftDownOptions(), "tls_cert": None, "tls_key": None,
    }  # fmt: skip
    return LookupConfig(common, **(values | changes))


@pytest.fixture
def make_services(zookeeper: str, redis_url: str, cluster_name: str) -> Iterator[MakeServices]:
    """Started services of this test's cluster, with some options changed; stopped at the end."""
    made: list[Services] = []

    def make(**changes: Any) -> Services:
        services = Services(config(zookeeper, redis_url, cluster_name, **changes))
        made.append(services)
        services.start()
        return services

    yield make
    for services in made:
        services.stop()


@pytest.fixture
def nodes(zookeeper: str, redis_url: str, cluster_name: str) -> Iterator[Cluster]:
    """Registers nodes in this test's cluster."""
    with Cluster(zookeeper, redis_url, cluster_name) as cluster:
        yield cluster


@pytest.fixture
def services(make_services: MakeServices, nodes: Cluster) -> Services:
    """Services whose ring has the active nodes n1, n2 and n3."""
    services = make_services(api_keys=(API_KEY,))
    for node in ("n1", "n2", "n3"):
        nodes.node(node)
    wait_until(lambda: services.rings.latest and len(services.rings.latest.view.ring.weights) == 3, message="3 nodes")
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()
