"""Is a node alive, by its own word? Asked over HTTP where ZooKeeper's word is not enough."""

from __future__ import annotations

import http.client
import logging
import ssl
import time
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import orjson

from ringway.core.repeats import Repeats, times

log = logging.getLogger(__name__)

TIMEOUT_S = 1.0
# The address is the cluster's own, which a node's certificate, made for its clients, mostly does not name, and its
# authority may be a private one. What counts is that the node answers, and with which boot id.
ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE
# Never by http_proxy and the like: a proxy knows nothing of the cluster's own addresses, and a live node would be dead.
DIRECT = build_opener(ProxyHandler({}), HTTPSHandler(context=ANY_CERTIFICATE))
BODY_LIMIT = 4096
REMEMBERED = 1000  # nodes that do not answer; more are said anew
_silent: dict[str, Repeats] = {}  # by base: several parts of a process may ask each second
# Given a node's `http` base and the boot id that it had ("" where unknown): whether that node answers.
Probe = Callable[[str, str], bool]


def livez(base: str, boot_id: str = "") -> bool:
    """Whether `GET {base}/livez` says 200 within a second.

    Another process may have taken a dead node's port, so an answer that names another `boot_id` does not count.
    """
    try:
        with DIRECT.open(f"{base}/livez", timeout=TIMEOUT_S) as answer:
            body = answer.read(BODY_LIMIT)
    except (HTTPError, OSError, http.client.HTTPException, ValueError) as error:
        _say(base, error)
        return False
    _silent.pop(base, None)
    return not boot_id or _boot_id(body) in (None, boot_id)


def _say(base: str, error: Exception) -> None:
    if len(_silent) >= REMEMBERED:
        _silent.clear()
    count = _silent.setdefault(base, Repeats()).again(time.monotonic())
    log.log(logging.INFO if count else logging.DEBUG, "no sign of life from %s%s: %s", base, times(count), error)


def _boot_id(body: bytes) -> object:
    """The boot id in a /livez answer, None where it names none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("boot_id") if isinstance(answer, dict) else None
