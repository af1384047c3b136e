from __future__ import annotations

import subprocess
import sys

# A worker whose main thread is still starting: the SIGTERM goes to the handler it inherited, which does nothing.
STARTING = """
import multiprocessing, signal, threading
from ringway.lookup_service import worker

class Services:
    def stop(self):
        print("stopped", flush=True)

worker.STOP_S = 0.1
signal.signal(signal.SIGTERM, lambda *_: print("swallowed", flush=True))
end, goodbye = multiprocessing.Pipe(duplex=False)
threading.Thread(target=worker._follow_parent, args=(end, Services()), daemon=True).start()
goodbye.close()
while True:
    signal.pause()
"""


def test_a_worker_ends_with_its_parent_even_before_it_listens_to_signals() -> None:
    done = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.split() == ["stopped", "swallowed"]
    assert done.returncode == 0
