"""HTTP requests of tests, each on a connection of its own.

httpx alone would load the system's certificates for every call, TLS or not: 22 ms of CPU where the call takes one.
"""

from __future__ import annotations

from typing import Any

import httpx

from ringway.trust import system_trust


def client(**options: Any) -> httpx.Client:
    """`httpx.Client`, whose requests share a connection."""
    return httpx.Client(**{"verify": system_trust(), **options})


def get(url: str, **options: Any) -> httpx.Response:
    """`httpx.get`."""
    return httpx.get(url, **{"verify": system_trust(), **options})


def post(url: str, **options: Any) -> httpx.Response:
    """`httpx.post`."""
    return httpx.post(url, **{"verify": system_trust(), **options})
