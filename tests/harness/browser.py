"""Headless Chromium, driven over plain WebDriver (W3C) by HTTP; no library needed."""

from __future__ import annotations

import shutil
import tempfile
from types import TracebackType
from typing import Any

import httpx
import pytest

from ringway.processes import Processes
from tests.harness.ports import pick_port

# Without these Chromium calls its makers' hosts at every start.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
needs_chromium = pytest.mark.skipif(
    shutil.which("chromedriver") is None or shutil.which("chromium") is None, reason="Chromium is not installed"
)


class Browser:
    """One window. `run` and `wait_for` evaluate JavaScript in its page."""

    def __enter__(self) -> Browser:
        self._profile = tempfile.mkdtemp(prefix="ringway-chromium-")
        self._processes = Processes()
        self._processes.at_close(lambda: shutil.rmtree(self._profile, ignore_errors=True))
        try:
            self._start()
        except BaseException:
            self._processes.close()
            raise
        return self

    def _start(self) -> None:
        port = pick_port()
        driver = self._processes.start("chromedriver", ["chromedriver", f"--port={port}"])
        driver.wait_line("started successfully", 20.0)
        options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={self._profile}"]}
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0)
        self._session = f"/session/{self._call('POST', '/session', capabilities)['sessionId']}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("DELETE", self._session)
        self._http.close()
        self._processes.close()

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the function body `script` returns; a promise is waited for."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        value = answer.json()["value"]
        if answer.is_error:
            raise AssertionError(f"{value['error']}: {value['message']}")
        return value
