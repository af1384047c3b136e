"""Coverage-guided fuzzing of the readers of frames, requests and JSON with atheris, for as long as it is told.

    pip install 'ringway[fuzz]'
    python -m tests.fuzz.fuzz_wire -max_total_time=60 [CORPUS]

Options are libFuzzer's. `inputs` says what an input is; `sanitized` runs a corpus through the compiled part under
AddressSanitizer. What it finds goes to the folder CORPUS, if one is named.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=["ringway.core.frames", "ringway.ws_server.wire", "ringway.ws_server.handshake"]
):
    from ringway.core import frames  # noqa: F401 - instrumented at their first import
    from ringway.ws_server import handshake, wire  # noqa: F401

from .inputs import SEEDS, TAKES, one_input


def main() -> None:
    """Runs until libFuzzer's limits; exits with an error at the first crash."""
    print(f"readers: {len(TAKES)} (2: compiled and Python)")
    for seed in SEEDS:
        one_input(seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
