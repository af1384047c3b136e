"""The operator's tools: what they ask the lookup service, and how they show the answer."""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from .core.errors import RingwayError
from .trust import system_trust

TIMEOUT_S = 10.0
POLL_S = 0.5
QUIET_POLLS = 6  # a node that has just joined has no figures yet


class LookupFailed(RingwayError):
    """The lookup service refused (its own words), or none of the URLs answered."""


class NotDrained(RingwayError):
    """The node says nothing any more and is still on the ring: waiting longer is of no use."""


class LookupApi:
    """HTTP calls to the first lookup that answers."""

    def __init__(self, urls: Sequence[str], api_key: str | None = None) -> None:
        self._urls = deque(urls)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._last_id = ""

    def next(self) -> None:
        """Begin with the next URL from now on."""
        self._urls.rotate(-1)

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON of the answer. Raises LookupFailed."""
        return _body(self._ask(method, path, **request))

    def health(self) -> dict[str, Any]:
        """What `/readyz` says, ready or not. Raises LookupFailed."""
        return _json(self._ask("GET", "/readyz"))

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        failures = []
        for url in self._urls:
            try:
                return httpx.request(method, url + path, headers=self._headers, timeout=TIMEOUT_S,
                                     verify=system_trust(), **request)
            except httpx.HTTPError as error:
                failures.append(f"{url}: {error or type(error).__name__}")
        raise LookupFailed(f"no lookup service answered ({'; '.join(failures)}); set RINGWAY_LOOKUP or --lookup")

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self.call("GET", path, params={name: value for name, value in params.items() if value is not None})

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events as (event, data), from the first lookup, until it ends the stream.

        A second call goes on after the last event of the first one, also at another lookup.
        """
        url, headers = self._urls[0], {"Last-Event-ID": self._last_id} if self._last_id else {}
        timeout, trust = httpx.Timeout(TIMEOUT_S, read=60.0), system_trust()
        try:
            with httpx.stream("GET", f"{url}/events", headers=headers, timeout=timeout, verify=trust) as answer:
                if answer.is_error:
                    answer.read()
                    _body(answer)
                for event, data, event_id in _events(answer.iter_lines(), self._last_id):
                    self._last_id = event_id
                    yield event, data
        except httpx.HTTPError as error:
            raise LookupFailed(f"{url}: the events ended: {error or type(error).__name__}") from error


def _body(answer: httpx.Response) -> dict[str, Any]:
    body = _json(answer)
    if answer.is_error:
        raise LookupFailed(f"{answer.status_code} {body.get('error')}: {body.get('message')}")
    return body


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        return dict(answer.json())
    except json.JSONDecodeError:
        return {"error": "not_json", "message": answer.text[:200]}


def _events(lines: Iterator[str], event_id: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Event, data, and the id that stands after it: one without an id of its own leaves the last one."""
    event, data = "message", ""
    for line in lines:
        name, _, value = line.partition(":")
        if name == "event":
            event = value.strip()
        elif name == "id":
            event_id = value.strip()
        elif name == "data":
            data += value.strip()
        elif not line and data:
            yield event, json.loads(data), event_id
            event, data = "message", ""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell."""
    cells = [list(header), *[["-" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f}%"


def show_route(answer: dict[str, Any]) -> str:
    """One fact a line; the URL last and alone, to be copied."""
    lines = [f"{answer['uid']} is at {answer['node']} (ring {answer['gen']}.{answer['epoch']})"]
    if answer.get("stale"):
        lines.append("stale: the lookup cannot reach ZooKeeper, this is the last ring it had")
    if explained := answer.get("explain"):
        lines += [f"{name}: {value}" for name, value in explained.items()]
    lines.append(f"candidates: {', '.join(answer['candidates'])}")
    lines.append(f"the ticket expires in {answer['expires_in']} s; open now:")
    return "\n".join([*lines, answer["url"]])


def show_ring(ring: dict[str, Any], nodes: Sequence[dict[str, Any]], waiting: Sequence[dict[str, Any]] = ()) -> str:
    """The ring document and what each node says of itself; then who is not in it, and why."""
    by_id = {node["id"]: node for node in nodes}
    rows = []
    for member in ring["members"]:
        node = by_id.get(member["id"], {})
        share = percent(node.get("share"))
        rows.append([member["id"], member["state"], member["vnodes"], share, node.get("sessions"), member["url"]])
    head = f"ring {ring['gen']}.{ring['epoch']} {ring['alg']} checksum {ring['checksum'][:12]}"
    text = "\n".join([head, table(["node", "state", "vnodes", "share", "sessions", "url"], rows)])
    if not waiting:
        return text
    rows = [[node["id"], node["state"], node["reason"]] for node in waiting]
    return "\n".join([text, "", "not in the ring:", table(["node", "state", "why"], rows)])


def ring_change(old: dict[str, Any] | None, new: dict[str, Any]) -> str:
    """Who joined, left or changed between two documents, and what moves by the newer one, in one line."""
    before = {m["id"]: m for m in old["members"]} if old else {}
    after = {m["id"]: m for m in new["members"]}
    changes = [f"+ {name} ({after[name]['state']})" for name in sorted(after.keys() - before.keys())]
    changes += [f"- {name}" for name in sorted(before.keys() - after.keys())]
    for name in sorted(after.keys() & before.keys()):
        changes += [
            f"{name} {field} {before[name][field]} -> {after[name][field]}"
            for field in ("state", "vnodes", "url")
            if before[name][field] != after[name][field]
        ]
    active = sum(m["state"] == "active" for m in new["members"])
    what = ", ".join(changes) or "no change of members"
    return f"ring {new['gen']}.{new['epoch']}: {what}; {active} active{_moves(new)}"


def _moves(ring: dict[str, Any]) -> str:
    moved, sessions = ring.get("moved"), ring.get("sessions_moved")
    if moved is None:
        return ""
    about = "" if sessions is None else f", about {sessions} sessions"
    return f"; {percent(moved)} of all users move{about}"


def moves_line(moves: dict[str, Any]) -> str:
    """What a node tells of its moves: exact, and counted since it started."""
    return f"{moves['node']}: {moves['left']} sessions left to move, {moves.get('told', 0)} told since it started"


def show_preview(answer: dict[str, Any]) -> str:
    """Shares before and after, and what would move."""
    fields = ("id", "vnodes", "share_before", "share_after", "sessions_before", "sessions_after")
    rows = [[percent(node[f]) if f.startswith("share") else node[f] for f in fields] for node in answer["nodes"]]
    share, moved, sessions = percent(answer["moved_share"]), answer["sessions_moved"], answer["sessions"]
    would = f"{share} of all users, {moved} of {sessions} sessions would move"
    head = f"from ring {answer['gen']}.{answer['epoch']}: {would}"
    return "\n".join([head, table(["node", "vnodes", "share", "then", "sessions", "then"], rows)])


def watch(api: LookupApi, document: dict[str, Any]) -> Iterator[str]:
    """A line for each new ring after `document` and each report of moves, while the lookup sends events."""
    for line, _ in _news(api, document):
        yield line


def follow(api: LookupApi, document: dict[str, Any]) -> Iterator[str]:
    """As `watch`, without an end: where a lookup ends its events, the next one tells of each ring that was missed."""
    while True:
        try:
            for line, newer in _news(api, document):
                document = newer
                yield line
        except LookupFailed as error:
            yield str(error)
        api.next()
        time.sleep(POLL_S)


def _news(api: LookupApi, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines, each with the newest ring by then."""
    for event, data in api.events():
        if event == "ring" and (data["gen"], data["epoch"]) > (document["gen"], document["epoch"]):
            line, document = ring_change(document, data), data
            yield line, document
        elif event == "moves":
            yield moves_line(data), document


def drain(api: LookupApi, node_id: str) -> Iterator[str]:
    """Ask for the drain, then say how many sessions are left until the node is gone.

    Raises NotDrained where it is down, or down and kept on the ring because nobody can take its place.
    """
    said = order(api, node_id, "drain")
    yield f"{node_id} was {said['was']} and is draining"
    left, quiet = None, 0
    while (node := (nodes := _nodes(api)).get(node_id)) is not None:
        sessions = node.get("sessions")
        quiet = quiet + 1 if sessions is None else 0
        if sessions is not None and sessions != left:
            left = sessions
            yield f"{time.strftime('%H:%M:%S')} {node_id} {node['state']}, {left} sessions left"
        if quiet >= QUIET_POLLS and api.health().get("redis"):  # without Redis no node's figures come through
            raise NotDrained(f"{node_id} says nothing any more, but is on the ring: {_kept(node_id, nodes)}")
        time.sleep(POLL_S)
    yield f"{node_id} has left the ring"


def _kept(node_id: str, nodes: dict[str, dict[str, Any]]) -> str:
    """Why a node that is gone is listed, and what ends that."""
    if any(node["state"] == "active" for name, node in nodes.items() if name != node_id):
        return "it leaves when its ZooKeeper session ends; a guard that keeps it is ended by `ringway accept-losses`"
    return "it was the last active one, and stays there until another node is active"


def order(api: LookupApi, node_id: str, what: str) -> dict[str, Any]:
    """An order to one node: drain or rebalance. Raises LookupFailed, for an unknown node too."""
    return api.call("POST", f"/nodes/{quote(node_id, safe='')}/{what}")


def _nodes(api: LookupApi) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in api.get("/nodes")["nodes"]}


def message(uid: str, text: str, *, volatile: bool) -> dict[str, Any]:
    """The body of `POST /send` for a text, with an id of its own so that a repetition is known as one."""
    return {"to": uid, "body": text, "id": uuid.uuid4().hex} | ({"volatile": True} if volatile else {})


def listen(lookups: Sequence[str], uid: str, say: Callable[[str], object]) -> None:
    """Be `uid` and print each message, until Ctrl-C. Raises ClientError when the cluster refuses."""
    from .client_sdk import Client

    with Client(lookups, uid, on_state=lambda state, why: say(f"# {state}{f': {why}' if why else ''}")) as client:
        try:
            for message in client:
                say(f"{message.from_ or '(back end)'}: {json.dumps(message.body, ensure_ascii=False)}")
        except KeyboardInterrupt:
            say("# closing")
