"""Where results go, and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("gevent", "flask", "flask-sock", "redis", "kazoo", "granian", "websockets", "xxhash", "orjson")


def machine() -> dict[str, str]:
    """The machine and versions a figure belongs to."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    return {"cpu": model, "cores": str(os.cpu_count()), "kernel": kernel, "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES}}


def write_json(name: str, rows: Any) -> Path:
    """Write bench/results/<name>.json. Returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    return path
