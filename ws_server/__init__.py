"""The node: `Sock` for flask-sock's users, `Node` and `Session` for applications on a node.

Looked up when they are asked for: importing gevent's parts before `__main__` has patched would be too early.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import Node
    from .sessions import Session
    from .sock import Sock

__all__ = ["Node", "Session", "Sock"]

_WHERE = {"Node": ".app", "Session": ".sessions", "Sock": ".sock"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)
