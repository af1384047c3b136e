"""ringway's client: ask a lookup service for the node, talk to it, and follow it when the ring changes.

`Client` for threads and greenlets, `AsyncClient` for asyncio; both run the machine of `machine.py`. Importing has no
side effect. The JavaScript client is `js/ringway.js`.
"""

from ringway.core.errors import (
    ClientClosed,
    ClientError,
    ClosedByServer,
    ConnectFailed,
    FrameRefused,
    InvalidInput,
    RingwayError,
    RouteRefused,
    SendBufferFull,
    TooManyHops,
    Unavailable,
    Unconfirmed,
)
from ringway.core.frames import Position

from .aio import AsyncClient
from .conversation import Joined, Message
from .machine import State
from .positions import Gap, PositionStore
from .receipts import AsyncReceipt, Receipt
from .sync import Client

__all__ = [
    "AsyncClient",
    "AsyncReceipt",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClosedByServer",
    "ConnectFailed",
    "FrameRefused",
    "Gap",
    "InvalidInput",
    "Joined",
    "Message",
    "Position",
    "PositionStore",
    "Receipt",
    "RingwayError",
    "RouteRefused",
    "SendBufferFull",
    "State",
    "TooManyHops",
    "Unavailable",
    "Unconfirmed",
]
