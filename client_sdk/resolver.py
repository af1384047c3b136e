"""`GET /route` on one lookup, and what its answer means. Trying the others is the machine's business."""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.request
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import cache, lru_cache
from itertools import chain, cycle
from typing import Any, Literal
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx
import orjson

from ringway.core.errors import InvalidInput

from .events import LookupFailed, Resolve, Routed

log = logging.getLogger("ringway.client_sdk")
Token = str | Callable[[], str]
AsyncToken = str | Callable[[], str | Awaitable[str]]
POOLS = 32  # a lookup; httpx looks at every connection of its pool for each request: many pools of one are cheaper


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


@cache
def tls() -> ssl.SSLContext:
    """The default context, made once: it reads all CA certificates, some 20 ms that 2,000 clients need not each pay."""
    return ssl.create_default_context()


@lru_cache(1024)
def proxy(url: str) -> Literal[True] | None:
    """What `websockets` is to do about proxies for a node: look for one at each connect, or not at all.

    Looking costs 0.3 ms (it reads the whole environment, several times), so whether there is any is asked once a node.

    Args: url: without its query, which no two connections have in common.
    """
    place = urlsplit(url).netloc
    return True if urllib.request.getproxies() and not urllib.request.proxy_bypass(place) else None


def read_answer(stamp: int, answer: httpx.Response) -> Routed | LookupFailed:
    """The machine's event for an HTTP answer."""
    try:
        body = orjson.loads(answer.content)
        if answer.status_code == 200:
            return Routed(stamp, body["url"], body["node"], int(body["gen"]), int(body["epoch"]),
                          int(body.get("connect_after_ms") or 0))
        code, message = str(body.get("error", "")), str(body.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        code, message = "", answer.text[:200]
    if answer.status_code < 400:  # not a lookup, or a proxy's page: the next lookup may do better
        return LookupFailed(stamp, 502, 0.0, "bad_answer", f"not a route: {answer.status_code} {answer.text[:200]}")
    return LookupFailed(stamp, answer.status_code, _retry_after(answer), code, message)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    try:
        return max(0.0, float(text)) if text[:1].isdigit() else 0.0
    except ValueError:
        return 0.0


def _request(lookup: str, uid: str, action: Resolve, token: str) -> dict[str, Any]:
    wanted = {"uid": uid, "min_epoch": action.min_epoch, "avoid": action.avoid}
    return {
        "url": f"{lookup.rstrip('/')}/route",
        "params": {name: value for name, value in wanted.items() if value},
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
    }


def _failed(lookup: str, action: Resolve, error: Exception) -> LookupFailed:
    if not isinstance(error, httpx.HTTPError | TimeoutError):
        log.error("no token or no valid URL for %s; trying again later", lookup, exc_info=error)
    return LookupFailed(action.stamp, 0, 0.0, "unreachable", repr(error))


class Resolver:
    """For threads (and greenlets: it blocks on ordinary sockets)."""

    def __init__(self, uid: str, token: Token | None, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self._uid, self._token = uid, token
        self._http = httpx.Client(timeout=timeout_s, verify=context or tls())

    def resolve(self, lookup: str, action: Resolve) -> Routed | LookupFailed:
        """One GET. Never raises: what goes wrong is an event."""
        try:
            token = self._token() if callable(self._token) else self._token or ""
            return read_answer(action.stamp, self._http.get(**_request(lookup, self._uid, action, token)))
        except Exception as error:  # noqa: BLE001 - the application's token callable may raise anything
            return _failed(lookup, action, error)

    def close(self) -> None:
        self._http.close()


class _Pool:
    """One request at a time, and so one connection, to one lookup, for one event loop."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.https: dict[ssl.SSLContext, httpx.AsyncClient] = {}

    def http(self, context: ssl.SSLContext) -> httpx.AsyncClient:
        if context not in self.https:
            self.https[context] = httpx.AsyncClient(verify=context)
        return self.https[context]


class _Pools:
    """The pools for one lookup: who waits behind a lookup that hangs waits for no other."""

    def __init__(self) -> None:
        self.all = [_Pool() for _ in range(POOLS)]
        self._turns = cycle(self.all)

    def free(self) -> _Pool:
        """The first that is free; when none is, the next one in turn."""
        return next((pool for pool in self.all if not pool.turn.locked()), None) or next(self._turns)


class _Shared:
    """The HTTP clients of one event loop, for all AsyncClients in it: they ask rarely, and a pool each is heavy."""

    def __init__(self) -> None:
        self.users = 0
        self._lookups: defaultdict[str, _Pools] = defaultdict(_Pools)

    def pool(self, lookup: str) -> _Pool:
        return self._lookups[lookup].free()

    async def close(self) -> None:
        for pool in chain.from_iterable(pools.all for pools in self._lookups.values()):
            https, pool.https = pool.https, {}
            for http in https.values():
                await http.aclose()


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


class AsyncResolver:
    """For one event loop."""

    def __init__(self, uid: str, token: AsyncToken | None, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self._uid, self._token, self._timeout_s, self._context = uid, token, timeout_s, context or tls()
        self._shared = _shared.setdefault(asyncio.get_running_loop(), _Shared())
        self._shared.users += 1

    async def resolve(self, lookup: str, action: Resolve) -> Routed | LookupFailed:
        """One GET. Never raises but when cancelled: what goes wrong is an event.

        The token, the wait for a turn and the answer have one time-out together.
        """
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                return read_answer(action.stamp, await self._ask(lookup, action))
        except Exception as error:  # noqa: BLE001 - the application's token callable may raise anything
            late = TimeoutError(f"no answer within {self._timeout_s:g} s")
            return _failed(lookup, action, late if limit.expired() else error)

    async def _ask(self, lookup: str, action: Resolve) -> httpx.Response:
        token = self._token() if callable(self._token) else self._token or ""
        request = _request(lookup, self._uid, action, token if isinstance(token, str) else await token)
        pool = self._shared.pool(lookup)
        async with pool.turn:
            return await pool.http(self._context).get(**request, timeout=None)

    async def close(self) -> None:
        """Let go; the last one out closes the shared client."""
        self._shared.users -= 1
        if self._shared.users == 0:
            await self._shared.close()
