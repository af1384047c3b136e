"""What is unread in the end, asked of lookups."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from ringway.chaos import acks
from ringway.chaos.acks import ASKED, questions, unread
from ringway.chaos.cast import Cast, Load

CAST = Cast(Load(sessions=10, groups=2, group_size=3, two_clients=0.0), "run")


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[httpx.Response]]:
    """By user: the answers still to be given, the last one for ever."""
    answers: dict[str, list[httpx.Response]] = {}

    async def get(_client: object, url: str, params: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        if url.startswith("http://dead"):
            raise httpx.ConnectError("refused")
        assert headers == {"Authorization": f"Bearer token of {params['uid']}"}
        left = answers.get(params["uid"], [answer(0)])
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(httpx.AsyncClient, "get", get)
    monkeypatch.setattr(acks, "EVERY_S", 0.0)
    monkeypatch.setattr(acks, "WAIT_S", 0.2)
    return answers


def answer(inbox: int, status: int = 200, **groups: int) -> httpx.Response:
    return httpx.Response(status, json={"unread": inbox, "groups": groups})


def ask() -> int | None:
    return asyncio.run(unread(["http://dead", "http://one"], CAST, lambda uid: f"token of {uid}"))


def test_acks_that_come_late_leave_nothing_unread(lookups: dict[str, list[httpx.Response]]) -> None:
    lookups["run-u3"] = [answer(2), answer(0, g=1), answer(0)]
    assert ask() == 0


def test_what_stays_unread_is_counted(lookups: dict[str, list[httpx.Response]]) -> None:
    lookups["run-u3"] = [answer(2, g=3)]
    assert ask() == 5


def test_lookups_that_do_not_tell_are_no_finding(lookups: dict[str, list[httpx.Response]]) -> None:
    lookups["run-u3"] = [answer(0, status=401)]
    assert ask() is None


def test_some_users_are_asked_for_with_their_groups() -> None:
    many = Cast(Load(sessions=5000, groups=3), "run")
    asked = questions(many)
    assert ASKED <= len(asked) <= 2 * ASKED
    assert all(uid in many.groups[group] for uid, groups in asked.items() for group in groups)
