"""HTTP requests of tests, each on a connection of its own.

httpx alone would load the system's certificates for every call, TLS or not: 22 ms of CPU where the call takes one.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

_TRUST = ssl.create_default_context()


def client(**options: Any) -> httpx.Client:
    """`httpx.Client`, whose requests share a connection."""
    return httpx.Client(**{"verify": _TRUST, **options})


def get(url: str, **options: Any) -> httpx.Response:
    """`httpx.get`."""
    return httpx.get(url, **{"verify": _TRUST, **options})


def post(url: str, **options: Any) -> httpx.Response:
    """`httpx.post`."""
    return httpx.post(url, **{"verify": _TRUST, **options})
