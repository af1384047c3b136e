"""What a node says of itself: to the lookups, to probes, to the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringway.core.members import State

if TYPE_CHECKING:
    from .parts import Parts


def figures(node: Parts) -> dict[str, Any]:
    """What the lookups show of the node."""
    return {
        "sessions": node.sessions.count,
        "users": len(node.sessions.users),
        "groups": len(node.delivery.groups),
        "moves": node.mover.planned + node.mover.leaving,
        "state": node.state.value,
    }


def readiness(node: Parts) -> dict[str, Any]:
    """What /readyz says: `problems` is empty where clients are well off here."""
    problems = []
    if node.state is not State.ACTIVE:
        problems.append(f"the node is {node.state.value}")
    if not node.link.up:
        problems.append("Redis is away: durable messages are refused")
    elif not node.subscriber.connected:
        problems.append("the subscriptions in Redis do not stand")
    view = node.history.current
    ring = view.version._asdict() | {"checksum": view.document.checksum} if view else {}
    here = {"node": node.id, "state": node.state.value, "sessions": node.sessions.count}
    outside: dict[str, Any] = {"zookeeper": node.zk.connected, "stale": not node.zk.connected, "redis": node.link.up}
    if node.zk.problem:  # for operators: clients are well off here all the same
        outside["zookeeper_problem"] = node.zk.problem
    return {"ready": not problems, "problems": problems, **here, **ring, **outside,
            "documents_dropped": dict(node.rings.alarms)}
