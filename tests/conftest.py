"""Fixtures of every test: the servers, a check that nothing is left behind, and the line that says what it ran on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

from ringway.processes import Processes
from tests.harness.servers import Backend, LocalRedis, LocalZooKeeper, redis_backend, zookeeper_backend

BACKENDS = pytest.StashKey[dict[str, str]]()
LASTING = pytest.StashKey[set[int]]()


@pytest.fixture(scope="session")
def _zookeeper_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with zookeeper_backend() as backend:
        _note(request.config, "ZooKeeper", backend)
        yield backend


@pytest.fixture(scope="session")
def _redis_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with redis_backend() as backend:
        _note(request.config, "Redis", backend)
        yield backend


@pytest.fixture
def zookeeper(_zookeeper_backend: Backend) -> str:
    """host:port of the shared ZooKeeper; tests that stop it take `own_zookeeper`."""
    return _zookeeper_backend.address


@pytest.fixture
def redis_url(_redis_backend: Backend) -> str:
    """URL of the shared Redis; tests that stop it take `own_redis`."""
    return _redis_backend.address


@pytest.fixture
def own_zookeeper() -> Iterator[LocalZooKeeper]:
    """A real ZooKeeper for this test alone, which may stop, start and wipe it."""
    with Processes() as processes:
        yield LocalZooKeeper(processes)


@pytest.fixture
def own_redis() -> Iterator[LocalRedis]:
    """A real Redis with AOF for this test alone, which may stop and start it."""
    with Processes() as processes:
        yield LocalRedis(processes)


@pytest.fixture(autouse=True)
def _no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a process behind fails."""
    before = _children()
    yield
    left = _children() - before - _of_session_fixtures(request)
    assert not left, f"processes left behind: {[_describe(pid) for pid in left]}"


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def _of_session_fixtures(request: pytest.FixtureRequest) -> set[int]:
    """What session and module fixtures started during this test lives on by right."""
    return set(request.config.stash.get(LASTING, set()))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Iterator[None] | object:
    """Note the processes that fixtures of wider scope than one test start."""
    before = _children() if fixturedef.scope != "function" else set()
    result = yield
    if fixturedef.scope != "function":
        request.config.stash.setdefault(LASTING, set()).update(_children() - before)
    return result


def _describe(pid: int) -> str:
    try:
        return f"{pid} {' '.join(psutil.Process(pid).cmdline())}"
    except psutil.NoSuchProcess:
        return f"{pid} (ended meanwhile)"


def _note(config: pytest.Config, server: str, backend: Backend) -> None:
    """Remember what a server was; in CI anything but a real one fails."""
    if os.environ.get("CI") and not backend.real:
        pytest.fail(f"in CI the tests run on a real {server}, not on: {backend.what}")
    config.stash.setdefault(BACKENDS, {})[server] = backend.what
    if (worker := getattr(config, "workeroutput", None)) is not None:
        worker.setdefault("backends", {})[server] = backend.what


def pytest_testnodedown(node: object, error: object) -> None:
    """With xdist: gather what the workers ran on."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(BACKENDS, {}).update(output.get("backends", {}))  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for server, what in sorted(config.stash.get(BACKENDS, {}).items()):
        terminalreporter.write_line(f"{server}: {what}")
