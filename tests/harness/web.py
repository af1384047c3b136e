"""HTTP requests of tests, each on a connection of its own.

httpx alone would load the system's certificates for every call, TLS or not: 22 ms of CPU where the call takes one.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx

from ringway.trust import system_trust


def _trust() -> ssl.SSLContext:
    """Not what is remembered where a test has authorities of its own."""
    return ssl.create_default_context() if "SSL_CERT_FILE" in os.environ else system_trust()


def client(**options: Any) -> httpx.Client:
    """`httpx.Client`, whose requests share a connection."""
    return httpx.Client(**{"verify": _trust(), **options})


def get(url: str, **options: Any) -> httpx.Response:
    """`httpx.get`."""
    return httpx.get(url, **{"verify": _trust(), **options})


def post(url: str, **options: Any) -> httpx.Response:
    """`httpx.post`."""
    return httpx.post(url, **{"verify": _trust(), **options})
