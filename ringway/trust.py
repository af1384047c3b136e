"""The authorities that a client of TLS goes by where it is not told: the system's, in SDKs and commands alike."""

from __future__ import annotations

import ssl
from functools import cache


@cache
def system_trust() -> ssl.SSLContext:
    """The default context, made once: it reads all CA certificates, some 20 ms that 2,000 clients need not each pay.

    httpx by itself would make one for every client and every call, from certificates of its own: an authority that the
    system trusts would be unknown to it.
    """
    return ssl.create_default_context()
