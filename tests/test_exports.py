"""The names that users import: they exist, they are what they should be, and importing them has no side effect."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

SDK = {"AsyncClient", "Client", "ClientError", "Message", "PositionStore", "RouteRefused", "SendBufferFull", "State"}
PUBLIC = {
    "ringway.client_sdk": SDK,
    "ringway.ws_server": {"Node", "Session", "Sock"},
    "ringway.store.publisher": {"Publisher"},
    "ringway.lookup_service.auth": {"AuthRequest", "Forbidden", "Identity"},
    "ringway.zookeeper.devserver": {"DevServer"},
}


@pytest.mark.parametrize(("module", "names"), PUBLIC.items(), ids=PUBLIC.keys())
def test_public_names_can_be_imported(module: str, names: set[str]) -> None:
    imported = importlib.import_module(module)
    assert not {name for name in names if not hasattr(imported, name)}


@pytest.mark.parametrize("module", ["ringway.client_sdk", "ringway.ws_server"])
def test_everything_in_all_exists(module: str) -> None:
    imported = importlib.import_module(module)
    assert not [name for name in imported.__all__ if not hasattr(imported, name)]
    assert sorted(imported.__all__) == imported.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        importlib.import_module("ringway.ws_server").nothing  # noqa: B018


MODULES = ["ringway", "ringway.core", "ringway.client_sdk", "ringway.ws_server", "ringway.cli"]


@pytest.mark.parametrize("module", MODULES)
def test_importing_patches_nothing_and_starts_nothing(module: str) -> None:
    script = (
        f"import socket, threading, logging; before = socket.socket; import {module}; import sys\n"
        "assert socket.socket is before and threading.active_count() == 1 and not logging.getLogger().handlers\n"
        "assert 'gevent' not in sys.modules, 'gevent was imported'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
