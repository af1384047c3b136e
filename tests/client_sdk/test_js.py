"""The JavaScript client: its own tests under `node --test`, its types, and that its tables are Python's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ringway.client_sdk.machine import MAX_HOPS, TRANSITIONS
from tests.harness import node_ws

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests" / "js"
SHIPPED = ROOT / "client_sdk" / "js"


def run(*command: str) -> str:
    environment = {**os.environ, "RINGWAY_TEST_PYTHON": sys.executable, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def node() -> str:
    return node_ws.node()


@pytest.fixture(scope="module")
def packages(node: str) -> Path:
    return node_ws.packages()


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


@pytest.mark.parametrize("name", ["Client", "Receipt"])
def test_the_types_name_just_the_public_members_of_a_class(node: str, name: str) -> None:
    program = f"""
        const {{ {name} }} = await import(process.argv[1]);
        const made = new {name}("http://lookup", "alice", {{ WebSocket: Object }});
        const names = [...Object.keys(made), ...Reflect.ownKeys({name}.prototype)];
        console.log(JSON.stringify(names.map((name) => typeof name === "symbol" ? `[${{name.description}}]` : name)));
    """
    members = set(json.loads(run(node, "--input-type=module", "-e", program, str(SHIPPED / "ringway.js"))))
    block = (SHIPPED / "ringway.d.ts").read_text().split(f"export declare class {name}", 1)[1].split("\n}", 1)[0]
    typed = set(re.findall(r"^  (?:readonly )?(\w+|\[Symbol\.\w+\])[(:<]", block, re.MULTILINE))
    inner = {"constructor", "settle", "fail"}
    assert typed - inner == members - inner


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
