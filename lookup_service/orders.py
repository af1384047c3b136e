"""The operator's order to the publisher, left in ZooKeeper for whichever process it is: every missing node is dead."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kazoo.exceptions import NodeExistsError, NoNodeError

from ringway.zookeeper.client import ZooKeeper

log = logging.getLogger(__name__)

ACCEPT_LOSSES = ("orders", "accept-losses")


def accept_losses(zk: ZooKeeper) -> None:
    """Give the order. Raises Unavailable."""
    path = zk.path(*ACCEPT_LOSSES)
    try:
        zk.create(path)
    except NoNodeError:
        zk.ensure_path(path)
    except NodeExistsError:
        return


def losses_accepted(zk: ZooKeeper, wake: Callable[[object], object]) -> bool:
    """Take the order, once, if it was given; else `wake` is called when it is. Raises Unavailable."""
    path = zk.path(*ACCEPT_LOSSES)
    if zk.exists(path, watch=wake) is None:
        return False
    try:
        zk.delete(path)
    except NoNodeError:
        return False  # this server lags: the order was carried out before
    log.warning("the operator says that every missing node is dead")
    return True
