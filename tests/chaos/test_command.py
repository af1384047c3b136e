"""`ringway chaos` on a cluster: its exit code, its report, and the words for options that cannot work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringway.chaos.cast import Load
from ringway.chaos.traffic import Traffic
from ringway.cli import cli
from tests.harness import redises, web, zookeepers
from tests.harness.cluster import Cluster

SMALL = ["--sessions", "20", "--user-rate", "50", "--group-rate", "10", "--seconds", "2"]


@pytest.fixture(scope="module")
def cluster(zookeeper_server: zookeepers.Provider, redis_server: redises.Provider) -> Iterator[Cluster]:
    with Cluster(zookeeper=zookeeper_server.address, redis=redis_server.url, nodes=2) as running:
        yield running


def chaos(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["chaos", *arguments])


@pytest.mark.slow
def test_a_run_that_keeps_the_promise_ends_with_0_and_a_report(cluster: Cluster, tmp_path: Path) -> None:
    report, mark = tmp_path / "report.html", tmp_path / "mark"
    done = chaos("--lookup", cluster.url, *SMALL, "--fault", f"touch=touch {mark}", "--report", str(report))
    assert done.exit_code == 0, done.output
    assert mark.exists()
    assert "FAULT touch" in done.stdout
    assert "lost 0, doubled 0, out of order 0" in done.stdout
    assert "verdict: nothing lost, doubled or out of order" in done.stdout
    assert report.read_text().count("<svg") == 4


@pytest.mark.slow
def test_a_fault_that_fails_ends_the_command_with_1(cluster: Cluster) -> None:
    done = chaos("--lookup", cluster.url, *SMALL, "--fault", "broken=echo no such unit; exit 5")
    assert done.exit_code == 1
    assert "proves nothing about it: FaultFailed: broken: exit code 5: no such unit" in done.stdout


@pytest.mark.slow
def test_tokens_come_from_a_function_of_the_users_own(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def token(uid):\n    open('asked', 'a').write(uid + '\\n')\n    return 'secret'\n"
    (tmp_path / "own_tokens.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert chaos("--lookup", cluster.url, *SMALL, "--token", "own_tokens:token").exit_code == 0
    assert len(set((tmp_path / "asked").read_text().split())) == 18  # two of them have two clients


@pytest.mark.slow
def test_members_for_good_are_named_before_and_let_go_after(cluster: Cluster) -> None:
    def members(traffic: Traffic) -> dict[str, list[str]]:
        ask = f"{cluster.url}/members?group="
        return {group: sorted(web.get(ask + group).json()["members"]) for group in traffic.cast.groups}

    async def work() -> None:
        traffic = Traffic([cluster.url], Load(sessions=20, groups=4, processes=1, permanent=0.5))
        try:
            await traffic.open()
            during, named = members(traffic), traffic.cast.permanent
            assert len(named) == 2
            assert during == {group: sorted(named.get(group, [])) for group in traffic.cast.groups}
        finally:
            await traffic.close()
        assert not any(members(traffic).values())

    asyncio.run(work())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "kill"], "--fault (RINGWAY_FAULT)='kill': must be name=command, the command for a shell"),
        (["--report", "/no/such/folder/x"], "must be a file in a folder that exists"),
        (["--sessions", "0"], "must be a whole number, 1 to 100000"),
        (["--token", "no_such_module:token"], "RINGWAY_TOKEN='no_such_module:token': cannot be loaded"),
    ],
)
def test_an_option_that_cannot_work_is_one_line(arguments: list[str], said: str) -> None:
    done = chaos(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_variable_has_one_fault_a_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGWAY_FAULT", "one=true && true\ntwo=exit 3")
    done = chaos("--lookup", cluster.url, *SMALL)
    assert done.exit_code == 1
    assert "FAULT one" in done.stdout
    assert "FAULT two" in done.stdout
