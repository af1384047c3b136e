"""What the service holds for unread when the readers had everything: their acks must have got there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from ringway.trust import system_trust

from .cast import Cast

ASKED = 200  # users, evenly chosen
AT_ONCE = 20
WAIT_S = 10.0  # acks are sent twice a second, and again after a reconnect
EVERY_S = 0.25
Token = Callable[[str], str]


def questions(cast: Cast) -> dict[str, list[str]]:
    """Users to be asked for, and their groups. Pure."""
    memberships = cast.memberships()
    return {uid: memberships[uid] for uid in cast.uids[:: max(1, len(cast.uids) // ASKED)]}


async def unread(lookups: Sequence[str], cast: Cast, token: Token | None) -> int | None:
    """How many messages are left unread of the users asked for, once that no longer falls or time is up.

    None: the lookups do not tell, since they want a key for it or none answers.
    """
    asked, deadline = questions(cast), time.monotonic() + WAIT_S
    async with httpx.AsyncClient(timeout=5.0, verify=system_trust()) as http:
        while True:
            asked, left = await _still(http, lookups, asked, token)
            if left is None or not asked or time.monotonic() > deadline:
                return left
            await asyncio.sleep(EVERY_S)


async def _still(
    http: httpx.AsyncClient, lookups: Sequence[str], asked: Mapping[str, list[str]], token: Token | None
) -> tuple[dict[str, list[str]], int | None]:
    """Those of the users who have unread messages yet, and how many."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(uid: str) -> int | None:
        async with gate:
            return await _of(http, lookups, uid, asked[uid], token)

    counts = dict(zip(asked, await asyncio.gather(*map(one, asked)), strict=True))
    if None in counts.values():
        return {}, None
    left = {uid: count for uid, count in counts.items() if count}
    return {uid: asked[uid] for uid in left}, sum(left.values())


async def _of(
    http: httpx.AsyncClient, lookups: Sequence[str], uid: str, groups: Sequence[str], token: Token | None
) -> int | None:
    headers = {"Authorization": f"Bearer {token(uid)}"} if token is not None else {}
    for lookup in lookups:
        try:
            answer = await http.get(f"{lookup}/unread", params={"uid": uid, "group": list(groups)}, headers=headers)
        except httpx.HTTPError:
            continue
        if answer.status_code == httpx.codes.OK:
            return _sum(answer.json())
    return None


def _sum(answer: Mapping[str, Any]) -> int:
    return int(answer["unread"]) + sum(map(int, answer["groups"].values()))
