"""Every error that ringway raises.

::

    RingwayError
    ├── ConfigError            an option has a value that cannot work
    │   └── AccessDenied       ZooKeeper does not let this process write
    ├── InvalidInput           a caller's value breaks a rule (HTTP 400)
    │   ├── InvalidUid
    │   └── InvalidFrame       also an `error` frame on the socket
    ├── NoActiveMember         the ring has nobody to answer with (HTTP 503)
    ├── DocumentError          a ring document that must not be used
    │   ├── DocumentForged     unsigned, or signed with a key we do not hold
    │   └── DocumentCorrupt    not a document, or its checksum does not hold
    ├── TicketError            a ticket that a node refuses; `cause` names which
    │   ├── TicketMalformed
    │   ├── TicketForged
    │   ├── TicketExpired
    │   ├── TicketForeign      made for another node
    │   └── TicketReused
    ├── Unavailable            ZooKeeper, Redis or a node does not answer; try again after `retry_after`
    │   └── Unsettled          it answers, and where this one channel is kept changes just now
    └── ClientError            what the SDKs raise
        ├── RouteRefused       the lookup service answered with an error
        ├── ConnectFailed      no lookup, or not the node, could be reached
        ├── ClosedByServer     a close code that means stop
        ├── FrameRefused       the node answered a frame with an `error` that sending it again cannot mend
        ├── Unconfirmed        a message without `ok` that is too old to be sent again
        ├── SendBufferFull     more messages wait for `ok` than the client keeps
        ├── TooManyHops        sent from node to node too often
        └── ClientClosed       the application called close()

Errors carry fields; the text is made from them and says the value, the rule and what to do.
"""

from __future__ import annotations

SHOWN = 80


def shown(value: object) -> str:
    """The value for an error text: its repr, cut to 80 characters so that a hostile value cannot flood a log."""
    try:
        text = repr(value)
    except RecursionError:  # JSON of a client may be nested deeper than Python can write
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


class RingwayError(Exception):
    """Base of all errors of ringway."""


class ConfigError(RingwayError):
    """An option has a value that cannot work."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        super().__init__(name, value, rule)
        self.name, self.value, self.rule = name, value, rule

    def __str__(self) -> str:
        return f"{self.name}={shown(self.value)}: {self.rule}"


class AccessDenied(ConfigError):
    """ZooKeeper does not let this process write: it has not the digest that the cluster's znodes were made with."""


class InvalidInput(RingwayError):
    """A caller's value breaks a rule. `code` is the machine-readable word for it."""

    code = "bad_input"

    def __init__(self, field: str, value: object, rule: str, remedy: str, *, code: str | None = None) -> None:
        super().__init__(field, value, rule, remedy)
        self.field, self.value, self.rule, self.remedy = field, value, rule, remedy
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.field}={shown(self.value)}: {self.rule}; {self.remedy}"


class InvalidUid(InvalidInput):
    """A uid that no part of the cluster accepts."""

    code = "bad_uid"


class InvalidFrame(InvalidInput):
    """A client frame that breaks the protocol. `id` is its message id, `group` that of a join, where readable."""

    code = "bad_frame"

    def __init__(
        self, field: str, value: object, rule: str, remedy: str, *, code: str | None = None, id: str | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__(field, value, rule, remedy, code=code)
        self.id, self.group = id, group


class NoActiveMember(RingwayError):
    """The ring has no active member, so nobody owns anybody."""

    def __str__(self) -> str:
        return "no node is active; start one (ringway node) or wait for one to become ready"


class DocumentError(RingwayError):
    """A ring document that must not be used."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"ring document refused: {self.why}"


class DocumentForged(DocumentError):
    """Unsigned, or signed with a key that this process does not hold."""


class DocumentCorrupt(DocumentError):
    """Not a ring document, or its checksum does not hold."""


class TicketError(RingwayError):
    """A ticket that a node refuses."""

    cause = "ticket"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"ticket {self.cause}: {self.detail}; ask the lookup service for a new one"


class TicketMalformed(TicketError):
    """Not a ticket at all, or one without a required claim."""

    cause = "malformed"


class TicketForged(TicketError):
    """The signature does not hold, or names a key that is not in the key ring."""

    cause = "forged"


class TicketExpired(TicketError):
    """Past its `exp`."""

    cause = "expired"


class TicketForeign(TicketError):
    """Made for another node."""

    cause = "foreign"


class TicketReused(TicketError):
    """Seen before on this node."""

    cause = "reused"


class Unavailable(RingwayError):
    """A service that ringway needs does not answer. Trying again after `retry_after` seconds may work."""

    def __init__(self, service: str, why: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(service, why)
        self.service, self.why, self.retry_after = service, why, retry_after

    def __str__(self) -> str:
        detail = f" ({self.why})" if self.why else ""
        return f"{self.service} is unavailable{detail}; try again in {self.retry_after:g} s"


class Unsettled(Unavailable):
    """The service answers, but what was asked for changes its place in it just now. Others are not concerned."""


class ClientError(RingwayError):
    """Base of what the SDKs raise."""


class RouteRefused(ClientError):
    """The lookup service answered `GET /route` with an error that trying again cannot mend."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message

    def __str__(self) -> str:
        return f"the lookup service refused the route: {self.status} {self.code}: {self.message}"


class ConnectFailed(ClientError):
    """No connection came about within the time allowed."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url, self.why = url, why

    def __str__(self) -> str:
        return f"could not connect to {self.url}: {self.why}"


class ClosedByServer(ClientError):
    """The server closed with a code that means stop (1000, 4000-4099)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"closed by the server with {self.code}" + (f": {self.reason}" if self.reason else "")


class FrameRefused(ClientError):
    """The node answered a frame with an `error`. `code` is for programs, `id` the message's own where it has one."""

    def __init__(self, code: str, message: str, id: str | None = None) -> None:
        super().__init__(code, message, id)
        self.code, self.message, self.id = code, message, id

    def __str__(self) -> str:
        return f"the node refused {self.id or 'a frame'}: {self.code}: {self.message}"


class Unconfirmed(ClientError):
    """A message was written, had no `ok`, and is not sent again: the log may have it, and know its id no longer.

    `age`: seconds since it was first written.
    """

    def __init__(self, id: str, age: float) -> None:
        super().__init__(id, age)
        self.id, self.age = id, age

    def __str__(self) -> str:
        return (f"{self.id} was written {self.age:.0f} s ago and had no ok, and is too old to be known again; "
                "it may have arrived: ask, or send it anew where twice does no harm")


class SendBufferFull(ClientError):
    """More messages wait for `ok` than the client keeps; nothing was sent."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} messages already wait for ok; wait for some, or raise outbox_limit"


class TooManyHops(ClientError):
    """Re-routed too often without a healthy connection; the client backs off before it tries again."""

    def __init__(self, hops: int) -> None:
        super().__init__(hops)
        self.hops = hops

    def __str__(self) -> str:
        return f"sent from node to node {self.hops} times without a healthy connection"


class ClientClosed(ClientError):
    """The application called close()."""

    def __str__(self) -> str:
        return "the client is closed; make a new one"
