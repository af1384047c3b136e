"""The JavaScript client: its own tests under `node --test`, its types, and that its tables are Python's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ringway.client_sdk.machine import MAX_HOPS, TRANSITIONS

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests" / "js"
SHIPPED = ROOT / "client_sdk" / "js"
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


def unavailable(why: str) -> None:
    """Skips here, fails in CI."""
    if IN_CI:
        pytest.fail(why)
    pytest.skip(why)


def run(*command: str) -> str:
    environment = {**os.environ, "RINGWAY_TEST_PYTHON": sys.executable, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def node() -> str:
    """Node, 20 or later."""
    path = shutil.which("node")
    if path is None:
        unavailable("node is not installed")
    assert path is not None
    version = run(path, "--version").strip()
    if int(version[1:].split(".")[0]) < 20:
        unavailable(f"node is {version}, the JavaScript tests need 20 or later")
    return path


@pytest.fixture(scope="module")
def packages(node: str) -> Path:
    """tests/js/node_modules, installed at need."""
    wanted = json.loads((TESTS / "package.json").read_text())["devDependencies"]
    modules = TESTS / "node_modules"
    if not all((modules / name / "package.json").exists() for name in wanted):
        npm = shutil.which("npm")
        command = [npm or "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        if npm is None or subprocess.run(command, cwd=TESTS, capture_output=True, timeout=110).returncode:
            unavailable(f"npm could not install {', '.join(wanted)}")
    return modules


def test_the_tables_are_the_same_in_both_languages(node: str) -> None:
    program = "const m = await import(process.argv[1]); console.log(JSON.stringify([m.TRANSITIONS, m.MAX_HOPS]))"
    transitions, max_hops = json.loads(run(node, "--input-type=module", "-e", program, str(SHIPPED / "ringway.js")))
    assert transitions == {state: {on: list(to) for on, to in ons.items()} for state, ons in TRANSITIONS.items()}
    assert max_hops == MAX_HOPS


def test_the_pure_parts_agree_with_the_vectors(node: str) -> None:
    assert "# fail 0" in run(node, "--test", "--test-reporter=tap", "vectors.test.js")


def test_the_client_does_as_the_python_one_against_the_scripted_peer(node: str, packages: Path) -> None:
    assert "# fail 0" in run(node, "--test", "--test-reporter=tap", "client.test.js")


def test_the_types_compile_strictly(node: str, packages: Path) -> None:
    run(
        node, str(packages / "typescript" / "bin" / "tsc"), "--noEmit", "--strict", "--target", "es2022",
        "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom", "--types", "node", "types.ts",
    )


def test_every_export_of_the_module_that_is_for_users_has_a_type(node: str) -> None:
    program = "console.log(JSON.stringify(Object.keys(await import(process.argv[1]))))"
    exported = set(json.loads(run(node, "--input-type=module", "-e", program, str(SHIPPED / "ringway.js"))))
    inner = {"Conversation", "IllegalEvent", "Liveness", "MAX_HOPS", "Outbox", "Positions", "TRANSITIONS",
             "fullJitter", "newMachine", "spread", "stateOf", "step"}
    types = (SHIPPED / "ringway.d.ts").read_text()
    missing = [name for name in exported - inner if f" {name}" not in types]
    assert not missing


def test_what_ships_needs_no_package() -> None:
    for path in SHIPPED.glob("*.js"):
        code = [line for line in path.read_text().splitlines() if not line.startswith((" *", "//"))]
        assert not [line for line in code if "import " in line or "require(" in line]
    assert {path.name for path in SHIPPED.iterdir()} == {"package.json", "ringway.js", "ringway.d.ts", "snippet.js"}
    package = json.loads((SHIPPED / "package.json").read_text())
    assert package["type"] == "module", "before 20.19, Node takes a .js file for CommonJS unless told"
    assert not [key for key in package if key.endswith("ependencies")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package["version"] == project["version"]


def test_the_snippet_is_fifteen_lines() -> None:
    lines = [line for line in (SHIPPED / "snippet.js").read_text().splitlines() if not line.startswith("//")]
    assert len(lines) == 15
