"""Where results go, and what they were measured on."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ringway.servers import redis_binary
from ringway.ws_server import fast

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("gevent", "flask", "flask-sock", "redis", "kazoo", "granian", "websockets", "xxhash", "orjson")
# What ringway's processes run on that is not Python, by distribution.
WHEELS = {"gevent": "gevent._gevent_cgreenlet", "websockets": "websockets.speedups", "orjson": "orjson.orjson",
          "xxhash": "xxhash._xxhash", "hiredis": "hiredis.hiredis"}
PROGRAMS = {"node": ("node", "--version"), "wrk": ("wrk", "--version"), "cc": ("cc", "-dumpfullversion")}
NOT_MEASURED = frozenset({"setuptools"})


def machine() -> dict[str, str]:
    """The machine and versions a figure belongs to."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    return {"cpu": model, "cores": str(os.cpu_count()), "kernel": kernel, "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES}}


def peer_versions(python: Path, requirements: Path, node_modules: Path) -> dict[str, str]:
    """The versions of the measured peers, as far as they are installed."""
    names = [name for line in requirements.read_text().splitlines() if (name := re.match(r"[a-z-]+", line))]
    found: dict[str, str] = {}
    if python.exists():
        code = ("import sys, json\nfrom importlib.metadata import version\n"
                "print(json.dumps({name: version(name) for name in sys.argv[1:]}))")
        said = subprocess.run([str(python), "-c", code, *(n[0] for n in names)], capture_output=True, text=True)
        found = json.loads(said.stdout) if said.returncode == 0 else {}
    package = node_modules / "ws" / "package.json"
    if package.exists():
        found["node ws"] = json.loads(package.read_text())["version"]
    return {name: number for name, number in found.items() if name not in NOT_MEASURED} | programs()


def programs() -> dict[str, str]:
    found = {}
    for name, command in (PROGRAMS | {"redis-server": (redis_binary(), "--version")}).items():
        if shutil.which(command[0]):
            said = subprocess.run(command, capture_output=True, text=True)
            if number := re.search(r"\d+(\.\d+)+", said.stdout + said.stderr):
                found[name] = number[0]
    return found


def parts() -> str:
    """Which compiled parts ringway's processes have here, in words: of the wheels it uses, and its own."""
    words = []
    for name, module in WHEELS.items():
        try:
            words.append(f"{name} {version(name)} ({'compiled' if _compiled(module) else 'pure Python'})")
        except PackageNotFoundError:
            words.append(f"no {name}")
    return f"{', '.join(words)}; ringway's own: {own_part()}"


def own_part() -> str:
    """Whether a node here runs on the compiled common case."""
    if fast.compiled is None:
        return f"none ({fast.WHY})"
    built = Path(fast.compiled.__file__)
    source = built.parent / "_fast.c"
    stale = source.exists() and source.stat().st_mtime > built.stat().st_mtime
    return "_fast in use" + (", but older than its source: install again" if stale else "")


def _compiled(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return False
    return spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))


def write_json(name: str, rows: Any, folder: Path = RESULTS, **more: Any) -> Path:
    """Write <name>.json in bench/results. Returns its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    return path
