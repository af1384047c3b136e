"""`GET /route` on one lookup, and what its answer means. Trying the others is the machine's business."""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Literal
from urllib.parse import urlencode, urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import httpx
import orjson
from yarl import URL

from ringway.core.errors import InvalidInput
from ringway.trust import system_trust

from .events import LookupFailed, Resolve, Routed

log = logging.getLogger("ringway.client_sdk")
Token = str | Callable[[], str]
AsyncToken = str | Callable[[], str | Awaitable[str]]
AT_ONCE = 32  # requests to one lookup, of all AsyncClients of an event loop


def validate_lookups(lookup: str | Iterable[str]) -> tuple[str, ...]:
    """The URLs of the lookups. Raises InvalidInput: there is none, or one is no URL, and would be asked for ever."""
    urls = tuple(lookup) if isinstance(lookup, Iterable) and not isinstance(lookup, str) else (lookup,)
    if not urls or not all(isinstance(url, str) and _is_http(url) for url in urls):
        rule = "must be the URL of a lookup service, or of several"
        raise InvalidInput("lookup", lookup, rule, "give one like http://127.0.0.1:8080")
    return urls


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # port: ValueError
    except ValueError:
        return False


@lru_cache(1024)
def proxy(url: str) -> Literal[True] | None:
    """What `websockets` is to do about proxies for a node: look for one at each connect, or not at all.

    Looking costs 0.3 ms (it reads the whole environment, several times), so whether there is any is asked once a node.

    Args: url: without its query, which no two connections have in common.
    """
    place = urlsplit(url).netloc
    return True if urllib.request.getproxies() and not urllib.request.proxy_bypass(place) else None


@lru_cache(1024)
def http_proxy(lookup: str) -> str | None:
    """The proxy that the environment names for a lookup; asked once a lookup, for the cost of it."""
    parts = urlsplit(lookup)
    found = urllib.request.getproxies()
    named = found.get(parts.scheme) or found.get("all")
    return None if not named or urllib.request.proxy_bypass(parts.netloc) else named


def read_answer(stamp: int, status: int, content: bytes, retry_after: str) -> Routed | LookupFailed:
    """The machine's event for an HTTP answer."""
    try:
        body = orjson.loads(content)
        if status == 200:
            return Routed(stamp, body["url"], body["node"], int(body["gen"]), int(body["epoch"]),
                          int(body.get("connect_after_ms") or 0))
        code, message = str(body.get("error", "")), str(body.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        code, message = "", content[:200].decode(errors="replace")
    if status < 400:  # not a lookup, or a proxy's page: the next lookup may do better
        shown = content[:200].decode(errors="replace")
        return LookupFailed(stamp, 502, 0.0, "bad_answer", f"not a route: {status} {shown}")
    return LookupFailed(stamp, status, _seconds(retry_after), code, message)


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text)) if text[:1].isdigit() else 0.0
    except ValueError:
        return 0.0


def _request(lookup: str, uid: str, action: Resolve, token: str) -> tuple[str, dict[str, str]]:
    """URL and headers."""
    wanted = {"uid": uid, "min_epoch": action.min_epoch, "avoid": action.avoid}
    query = urlencode({name: value for name, value in wanted.items() if value})
    return f"{lookup.rstrip('/')}/route?{query}", {"Authorization": f"Bearer {token}"} if token else {}


def _failed(lookup: str, action: Resolve, error: Exception) -> LookupFailed:
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, _ORDINARY):
        log.error("no token or no valid URL for %s; trying again later", lookup, exc_info=error)
    return LookupFailed(action.stamp, 0, 0.0, "unreachable", repr(error.__cause__ or error))


_ORDINARY = (httpx.HTTPError, aiohttp.ClientError, OSError)  # of a network; OSError: TimeoutError too


class Resolver:
    """For threads (and greenlets: it blocks on ordinary sockets)."""

    def __init__(self, uid: str, token: Token | None, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self._uid, self._token = uid, token
        self._http = httpx.Client(timeout=timeout_s, verify=context or system_trust())

    def resolve(self, lookup: str, action: Resolve) -> Routed | LookupFailed:
        """One GET. Never raises: what goes wrong is an event."""
        try:
            token = self._token() if callable(self._token) else self._token or ""
            url, headers = _request(lookup, self._uid, action, token)
            answer = self._http.get(url, headers=headers)
            return read_answer(action.stamp, answer.status_code, answer.content, answer.headers.get("retry-after", ""))
        except Exception as error:  # noqa: BLE001 - the application's token callable may raise anything
            return _failed(lookup, action, error)

    def close(self) -> None:
        self._http.close()


class _Shared:
    """The HTTP session of one event loop, for all AsyncClients in it: they ask rarely, and a pool each is heavy.

    aiohttp's, because thousands come back together when a node dies: it takes less than half of httpx's CPU.
    """

    def __init__(self) -> None:
        self.users = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """With AT_ONCE connections a lookup, so that who waits behind one that hangs waits for no other."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=AT_ONCE),
                cookie_jar=aiohttp.DummyCookieJar(),  # one user's must not go out with another's request
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


class AsyncResolver:
    """For one event loop."""

    def __init__(self, uid: str, token: AsyncToken | None, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self._uid, self._token, self._timeout_s, self._context = uid, token, timeout_s, context or system_trust()
        self._shared = _shared.setdefault(asyncio.get_running_loop(), _Shared())
        self._shared.users += 1

    async def resolve(self, lookup: str, action: Resolve) -> Routed | LookupFailed:
        """One GET. Never raises but when cancelled: what goes wrong is an event.

        The token, the wait for a turn and the answer have one time-out together.
        """
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                return await self._ask(lookup, action)
        except Exception as error:  # noqa: BLE001 - the application's token callable may raise anything
            late = TimeoutError(f"no answer within {self._timeout_s:g} s")
            return _failed(lookup, action, late if limit.expired() else error)

    async def _ask(self, lookup: str, action: Resolve) -> Routed | LookupFailed:
        token = self._token() if callable(self._token) else self._token or ""
        url, headers = _request(lookup, self._uid, action, token if isinstance(token, str) else await token)
        async with self._shared.session.get(
            URL(url, encoded=True), headers=headers, ssl=self._context, proxy=http_proxy(lookup), allow_redirects=False
        ) as answer:
            content = await answer.read()
            return read_answer(action.stamp, answer.status, content, answer.headers.get("retry-after", ""))

    async def close(self) -> None:
        """Let go; the last one out closes the shared client."""
        self._shared.users -= 1
        if self._shared.users == 0:
            await self._shared.close()
