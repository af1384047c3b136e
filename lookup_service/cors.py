"""Which pages of other origins may call the lookup from a browser.

Never with credentials: tokens go into the Authorization header, which a page must put there itself, so no cookie can
be abused. The push and operator endpoints that change something are for back ends and allow no origin at all.
"""

from __future__ import annotations

from collections.abc import Sequence

ANY = "*"
EXPOSED = "ETag, Retry-After"
OPEN = (("Access-Control-Allow-Origin", ANY), ("Access-Control-Expose-Headers", EXPOSED))
PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, Last-Event-ID"),
    ("Access-Control-Max-Age", "600"),
)
SHARED = frozenset({"/route", "/routes", "/ring", "/ring/preview", "/nodes", "/presence", "/unread", "/events"})

Header = tuple[str, str]


class Cors:
    """Args: origins: the allowed ones (scheme://host[:port]), or `*`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    def headers(self, path: str, origin: str | None) -> tuple[Header, ...]:
        """The headers that let the page read this answer; none where it may not."""
        if path not in SHARED:
            return ()
        if self._any:
            return OPEN
        vary = ("Vary", "Origin")  # also on refusals, or a cache would give one origin's answer to another
        if origin not in self._origins or origin is None:
            return (vary,)
        return (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED), vary)

    def preflight(self, path: str, origin: str | None) -> tuple[Header, ...]:
        allowed = self.headers(path, origin)
        return (*allowed, *PREFLIGHT) if len(allowed) > 1 else allowed
