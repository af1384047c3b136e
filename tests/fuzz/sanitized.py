"""The tests of the compiled part, and a fuzzer's corpus, under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m tests.fuzz.sanitized [CORPUS]

Builds `_fast.c` with gcc's sanitizers in a folder of its own and puts that in the place of the installed one. Any
report of theirs ends it with an error. `RINGWAY_FUZZ_STREAMS` says how many generated streams are read.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NAME = "ringway.ws_server._fast"
FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TESTS = ("test_fast.py", "test_wire.py", "test_wire_fuzz.py", "test_deflate.py", "test_connection.py")
BUILT = "RINGWAY_SANITIZED"


def build(folder: Path) -> Path:
    library = folder / f"_fast{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_paths()["include"]
    source = ROOT / "ws_server" / "_fast.c"
    subprocess.run(["gcc", *FLAGS, "-shared", "-fPIC", f"-I{include}", "-o", library, source], check=True)
    return library


def outside() -> int:
    """Build it, and run this module again with the sanitizers' library in the process from its start."""
    runtimes = [subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
                for name in ("libasan.so", "libubsan.so")]
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, BUILT: str(build(Path(folder))), "LD_PRELOAD": " ".join(name.strip() for name in runtimes),
               "PYTHONMALLOC": "malloc",  # so that each object has red zones around it
               "ASAN_OPTIONS": "detect_leaks=0"}  # Python itself keeps what it has at its end
        return subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:]], env=env, check=False).returncode


def inside(library: str) -> int:
    spec = importlib.util.spec_from_file_location(NAME, library)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    import pytest

    from .inputs import TAKES, one_input

    assert module.take in TAKES, "the sanitized one is not in use"
    files = [path for corpus in sys.argv[1:] for path in sorted(Path(corpus).iterdir())]
    for path in files:
        one_input(path.read_bytes())
    print(f"{len(files)} inputs of a corpus read")
    folder = ROOT / "tests" / "ws_server"
    tests = [str(folder / name) for name in TESTS]
    # Without the fixtures of every test, which look for what it left behind, it takes a third of the time; and the
    # memory that grows is the sanitizers' own.
    options = ["-q", f"--confcutdir={folder}", "-p", "no:cacheprovider", "-k", "not memory_returns"]
    return int(pytest.main([*options, *tests]))


if __name__ == "__main__":
    sys.exit(inside(os.environ[BUILT]) if BUILT in os.environ else outside())
