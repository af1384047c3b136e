"""Lua scripts: by digest, with the text where Redis does not know it yet.

In a pipeline the first call to each server carries the text. Sending digests only and the text after a NOSCRIPT would
let later calls of the same pipeline overtake earlier ones when another client loads the script in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from itertools import count
from typing import Any, NamedTuple

from redis import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, ResponseError

from ringway.core.errors import Unavailable

from .client import REDIS_ERRORS, Client, redis_errors, unavailable
from .line import Command, Line

Arg = str | bytes | int


class Script(NamedTuple):
    """A Lua text and its digest."""

    text: str
    sha: str


class Call(NamedTuple):
    """One call. `home` names the server it goes to: calls of one home run in their order."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    home: str = ""


@cache
def script(*files: str, **constants: int) -> Script:
    """The script made of the constants and of these files of this package, one after the other."""
    folder = resources.files(__package__)
    texts = [folder.joinpath(name).read_text("utf-8") for name in files]
    text = "\n".join([*(f"local {name} = {value}" for name, value in constants.items()), *texts])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def run(client: Client, call: Call) -> Any:
    """The script's reply. Raises Unavailable."""
    reply = run_many(client, [call])[0]
    if isinstance(reply, Unavailable):
        raise reply
    return reply


def run_many(client: Client, calls: Sequence[Call], *, ordered: bool = True, line: Line | None = None) -> list[Any]:
    """The replies, in order, of one pipeline. What failed is an Unavailable in its place; nothing is raised.

    Args:
        ordered: whether a later call must not run before an earlier one. Otherwise the text is left out at first.
        line: to be used instead of the client's connections, if it is free.
    """
    replies: dict[int, Any] = {}

    def take(number: int, _call: Call, reply: Any) -> None:
        replies[number] = reply

    run_each(client, calls, take, text_first=ordered and len(calls) > 1, line=line)
    return [replies[number] for number in range(len(calls))]


def run_each(
    client: Client, calls: Iterable[Call], take: Callable[[int, Call, Any], object], *, text_first: bool,
    line: Line | None = None,
) -> None:
    """One pipeline. On a line a call is made while those before it are with Redis, and replies are taken as they come.

    Args:
        take: called once for each call with its number, it, and its reply or the Unavailable; it must not wait.
        text_first: the first call to each server carries the script's text: there are several, and they are ordered.
        line: as for `run_many`.
    """
    made: list[Call] = []
    unknown: list[int] = []
    answered = count()

    def one(reply: Any) -> None:
        number = next(answered)
        if isinstance(reply, NoScriptError):
            unknown.append(number)
        else:
            take(number, made[number], unavailable(reply) if isinstance(reply, REDIS_ERRORS) else reply)

    rest = iter(calls)
    try:
        _pipeline(client, line, _noted(rest, made), one, text_first=text_first)
    except Unavailable as error:
        made += rest
        for number in [*unknown, *range(next(answered), len(made))]:
            take(number, made[number], error)
    else:
        if unknown:
            again = [made[number] for number in unknown]
            run_each(client, again, lambda number, call, reply: take(unknown[number], call, reply), text_first=True,
                     line=line)


def _noted(calls: Iterator[Call], made: list[Call]) -> Iterator[Call]:
    for call in calls:
        made.append(call)
        yield call


def _pipeline(
    client: Client, line: Line | None, calls: Iterator[Call], take: Callable[[Any], object], *, text_first: bool
) -> None:
    with redis_errors():
        if line is not None and line.call(_commands(calls, text_first=text_first), take):
            return
        here = list(calls)
        commands = list(_commands(here, text_first=text_first))
        if len(commands) == 1:
            replies = [_single(client, commands[0], here[0].keys[0])]
        else:
            with client.pipeline(transaction=False) as pipe:
                for command, call in zip(commands, here, strict=True):
                    pipe.execute_command(*command, **_where(client, call.keys[0]))
                replies = pipe.execute(raise_on_error=False)
    for reply in replies:
        take(reply)


def _where(client: Client, key: str) -> dict[str, Any]:
    """redis-py asks a Cluster for the keys of each EVALSHA (COMMAND GETKEYS), one by one, unless told the server.

    If that is no longer the key's, it is asked anyway: the server says MOVED.
    """
    if not isinstance(client, RedisCluster):
        return {}
    try:
        node: Any = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
    except RedisClusterException:  # nobody has the slot at the moment: the call itself will say so
        return {}
    return {"target_nodes": node} if node is not None else {}


def _commands(calls: Iterable[Call], *, text_first: bool) -> Iterator[Command]:
    carried: set[tuple[str, str]] = set()
    for script, keys, args, home in calls:
        if text_first and (home, script.sha) not in carried:
            carried.add((home, script.sha))
            yield ("EVAL", script.text, len(keys), *keys, *args)
        else:
            yield ("EVALSHA", script.sha, len(keys), *keys, *args)


def _single(client: Client, command: Command, key: str) -> Any:
    """What a pipeline of one would give, without the pipeline: it matters to whoever waits for one message."""
    execute: Any = client.execute_command
    try:
        return execute(*command, **_where(client, key))
    except ResponseError as error:
        return error
