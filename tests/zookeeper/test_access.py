"""A digest closes what was made before it was set, and says what it cannot close."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id, Permissions, make_acl, make_digest_acl

from ringway.core.errors import AccessDenied
from ringway.zookeeper.access import DENIED_FOR_S, PERSISTENT, Access, cluster_acl, root_acl, tightened
from ringway.zookeeper.client import ZooKeeper
from ringway.zookeeper.membership import NodeRegistration
from tests.harness.waiting import wait_until
from tests.harness.zookeepers import Stoppable
from tests.zookeeper.help import new_cluster, record, session

DIGEST = "ringway:secret"
ADMIN = make_digest_acl("admin", "other", all=True)
WRITABLE = [make_acl("world", "anyone", read=True, write=True, create=True, delete=True)]  # but not ADMIN


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (OPEN_ACL_UNSAFE, cluster_acl(DIGEST), cluster_acl(DIGEST)),
        ([*OPEN_ACL_UNSAFE, ADMIN], cluster_acl(DIGEST), [*cluster_acl(DIGEST), ADMIN]),
        ([ADMIN, *WRITABLE], cluster_acl(DIGEST), [*cluster_acl(DIGEST), ADMIN]),
        (cluster_acl(DIGEST), cluster_acl(DIGEST), None),
        (cluster_acl("other:secret"), cluster_acl(DIGEST), None),
        (root_acl("other:secret"), root_acl(DIGEST), None),
        (root_acl("other:secret"), cluster_acl(DIGEST), [*cluster_acl(DIGEST), root_acl("other:secret")[0]]),
        ([ACL(Permissions.ALL, Id("ip", "10.0.0.1"))], cluster_acl(DIGEST), None),
    ],
    ids=["open", "open, but an admin", "writable", "closed", "another's", "root", "create", "by address"],
)
def test_only_what_the_world_may_is_taken_away(
    found: Sequence[ACL], wanted: Sequence[ACL], expected: list[ACL] | None
) -> None:
    assert tightened(found, wanted) == expected


def made_open(address: str, cluster: str) -> None:
    """A cluster as it is after a while without a digest."""
    with session(address, cluster) as zk:
        for name in PERSISTENT:
            zk.ensure_path(zk.path(name))


def refused(stranger: ZooKeeper, path: str) -> bool:
    """Whether a stranger can do nothing with this znode: write it, make a child, open it again."""
    for attempt in (
        lambda client: client.set(path, b"theirs"),
        lambda client: client.create(f"{path}/theirs"),
        lambda client: client.set_acls(path, OPEN_ACL_UNSAFE),
    ):
        try:
            attempt(stranger.client)
        except NoAuthError:
            continue
        return False
    return True


def test_a_cluster_made_without_a_digest_is_closed_by_the_first_who_has_one(own_zookeeper: Stoppable) -> None:
    cluster, address = new_cluster(), own_zookeeper.address
    made_open(address, cluster)
    with session(address, cluster, digest=DIGEST) as ours, session(address, cluster) as stranger:
        paths = [f"/ringway/{cluster}", *(ours.path(name) for name in PERSISTENT)]
        wait_until(lambda: ours.access.counts["closed"] >= len(paths))
        assert all(refused(stranger, path) for path in paths)
        ours.create(ours.path("nodes", "n1"), b"", ephemeral=True)
        with pytest.raises(NoAuthError):  # DELETE belongs to the parent, which was made without the digest
            stranger.client.delete(ours.path("nodes", "n1"))
        assert not ours.problem
        assert stranger.get(ours.path("nodes", "n1"))[0] == b""


def test_what_cannot_be_closed_is_an_alarm_until_an_administrator_closes_it(
    own_zookeeper: Stoppable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringway.zookeeper.client.ACCESS_RECHECK_S", 0.1)
    cluster, address = new_cluster(), own_zookeeper.address
    made_open(address, cluster)
    admin = KazooClient(address, auth_data=[("digest", "admin:other")])
    admin.start()
    nodes = f"/ringway/{cluster}/nodes"
    admin.set_acls(nodes, [ADMIN, *WRITABLE])
    try:
        with session(address, cluster, digest=DIGEST) as ours:
            wait_until(lambda: ours.problem)
            assert ours.problem.startswith(f"RINGWAY_ZOOKEEPER_DIGEST='ringway:***': cannot close {nodes},")
            assert caplog.text.count("ALARM") == 1
            admin.set_acls(nodes, [ADMIN, *cluster_acl(DIGEST)])
            wait_until(lambda: not ours.problem)
    finally:
        admin.stop()
        admin.close()


def test_a_refusal_is_told_once_while_it_lasts_and_forgotten_after(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    access = Access("ringway:secret", "blue", lambda: now[0])
    for _ in range(100):
        error = access.denied()
        now[0] += DENIED_FOR_S / 2
    assert str(error).startswith("RINGWAY_ZOOKEEPER_DIGEST='ringway:***': may not write under /ringway/blue:")
    assert "secret" not in caplog.text
    assert caplog.text.count("ALARM") == 1
    assert access.problem(now[0]) == str(error)
    now[0] += DENIED_FOR_S
    assert access.problem(now[0]) == ""
    access.denied()
    assert caplog.text.count("ALARM") == 2


def test_a_node_that_is_denied_later_on_goes_on_trying(own_zookeeper: Stoppable) -> None:
    """Its entry went with a session, and the cluster has a digest since: rights may be given yet."""
    cluster, address = new_cluster(), own_zookeeper.address
    with session(address, cluster) as zk, session(address, cluster, digest=DIGEST) as owner:
        registration = NodeRegistration(zk, record("n1"), verify_s=0.1)
        assert registration.register()
        owner.access.check(owner)
        owner.delete(owner.path("nodes", "n1"))
        wait_until(lambda: zk.problem and not registration.registered)
        owner.client.set_acls(owner.path("nodes"), OPEN_ACL_UNSAFE)
        wait_until(lambda: registration.registered)
        registration.close()


def test_a_transaction_without_the_rights_is_refused_like_a_call(own_zookeeper: Stoppable) -> None:
    cluster, address = new_cluster(), own_zookeeper.address
    with session(address, cluster, digest=DIGEST) as ours, session(address, cluster) as stranger:
        ours.ensure_path(ours.path("ring"))
        with pytest.raises(AccessDenied, match="not set"):
            stranger.commit(lambda transaction: transaction.set_data(stranger.path("ring"), b"theirs"))
