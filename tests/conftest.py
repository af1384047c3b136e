"""Fixtures of every test: the servers, a check that nothing is left behind, and the lines that say what it ran on."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from xdist.scheduler import LoadScopeScheduling

from ringway.ws_server import fast
from tests.harness import cluster, redises, zookeepers
from tests.harness.leaks import Resources, leaked
from tests.harness.zookeeper_java import Certificates

CHOICES = pytest.StashKey[tuple[zookeepers.Choice, redises.Choice]]()
LASTING = pytest.StashKey[dict[str, str]]()
CROWDS = {f"tests/integration/test_{name}.py" for name in
          ("agreement", "crowd", "ensemble", "fencing", "nothing_lost", "rebalancing", "slow_movers")}


def pytest_configure(config: pytest.Config) -> None:
    """Choose the servers before anything runs; in CI anything but real ones ends the run."""
    # What a shell starts in the background ignores Ctrl-C, and so would the commands that are to end on it here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = config.stash[CHOICES] = (zookeepers.choose(), redises.choose())
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        real = [choice.real for choice in chosen]
        unreal = [line for ok, line in zip(real, _servers(config), strict=True) if not ok]
        if unreal:
            pytest.exit(f"in CI the tests run on real servers only, not on: {'; '.join(unreal)}", returncode=4)
        if fast.compiled is None and "RINGWAY_PURE_PYTHON" not in os.environ:
            pytest.exit(f"in CI the hot path is tested compiled, too, and it was not built: {fast.WHY}", returncode=4)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests run in one process: its fixtures are made once.

    Those with hundreds of clients all run in one process, and first: two of them at a time would be too much.
    (xdist_group would say it more simply, but xdist 3.8 does not see these marks under pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "crowds" if file in CROWDS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def order(item: pytest.Item) -> tuple[bool, bool]:
        return item.nodeid.split("::")[0] not in CROWDS, "/integration/" not in item.nodeid

    items.sort(key=order)  # the longest first
    for item in items:
        if _is_on_chosen_zookeeper(item):
            item.add_marker(pytest.mark.chosen_zookeeper)


def _is_on_chosen_zookeeper(item: pytest.Item) -> bool:
    """By its fixture; what the development server keeps too is run on it, and on the chosen one as `real`."""
    return ("zookeeper_server" in getattr(item, "fixturenames", ()) and "devserver" not in item.name) or (
        "/contract/test_zookeeper" in item.nodeid and "real" in item.name.partition("[")[2]
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    return _lines(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in _lines(config):
        terminalreporter.write_line(line)


def _lines(config: pytest.Config) -> list[str]:
    hot = "compiled, and in Python" if fast.compiled is not None else f"in Python alone ({fast.WHY})"
    return [*_servers(config), f"Hot path of the node in the tests: {hot}"]


def _servers(config: pytest.Config) -> list[str]:
    zookeeper, redis = config.stash[CHOICES]
    return [f"ZooKeeper of the tests: {zookeeper.sentence}", f"Redis of the tests: {redis.sentence}"]


@pytest.fixture(scope="session")
def zookeeper_server(request: pytest.FixtureRequest) -> Iterator[zookeepers.Provider]:
    """The ZooKeeper that all tests of this process share; tests that stop it take `own_zookeeper`."""
    with request.config.stash[CHOICES][0].make() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[redises.Provider]:
    """The Redis that all tests of this process share; tests that stop it take `own_redis`."""
    with request.config.stash[CHOICES][1].make() as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that nothing but a test trusts."""
    return Certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def zookeeper(zookeeper_server: zookeepers.Provider) -> str:
    """host:port of the shared ZooKeeper."""
    return zookeeper_server.address


@pytest.fixture
def redis_url(redis_server: redises.Provider) -> str:
    """URL of the shared Redis."""
    return redis_server.url


@pytest.fixture
def own_zookeeper() -> Iterator[zookeepers.Stoppable]:
    """A ZooKeeper for this test alone, which may stop, freeze and wipe it; real where one can be had."""
    with zookeepers.own() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[redises.RealRedis]:
    """A Redis for this test alone, append-only, so that it keeps its data over `kill` and `restart`."""
    with redises.RealRedis(durable=True) as server:
        yield server


@pytest.fixture
def cluster_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no other test has; in ZooKeeper, no ephemeral znode may be left under it."""
    name = f"t{uuid.uuid4().hex[:10]}"
    zookeeper = request.getfixturevalue("zookeeper") if "zookeeper" in request.fixturenames else None
    yield name
    if zookeeper is not None:
        left = _ephemerals(zookeeper, f"/ringway/{name}")
        assert not left, f"ephemeral znodes left behind: {left}"


def _ephemerals(zookeeper: str, root: str) -> list[str]:
    """Ephemerals below a path; the rest of the tree there is deleted."""
    client = KazooClient(zookeeper)
    client.start()
    try:
        left: list[str] = []
        pending = [root]
        while pending:
            path = pending.pop()
            children, stat = client.get_children(path, include_data=True)
            left += [path] if stat.ephemeralOwner else []
            pending += [f"{path}/{child}" for child in children]
        client.delete(root, recursive=True)
        return left
    except NoNodeError:  # the test made nothing there, or it goes away while we look
        return []
    finally:
        client.stop()
        client.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what its clusters said."""
    report = yield
    if report.when == "call" and report.failed:
        report.sections += [(f"logs of {each.name}", each.logs()) for each in cluster.RUNNING]
    return report


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a process, a thread or a socket behind fails."""
    before = Resources.now()
    yield
    left = leaked(before, Resources(request.config.stash.get(LASTING, {})))
    assert not left, f"left behind: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What fixtures of wider scope than one test start lives on by right."""
    if fixturedef.scope == "function":
        return (yield)
    before = Resources.now()
    result = yield
    request.config.stash.setdefault(LASTING, {}).update(Resources.now().since(before))
    return result
