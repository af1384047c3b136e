"""The contract's access rules: world and digest, as ringway uses them to keep a node's znodes its own."""

from __future__ import annotations

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, BadVersionError, InvalidACLError, NoAuthError, RuntimeInconsistency
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, Id, Permissions, make_acl, make_digest_acl

from tests.contract.conftest import OWNER, Connect
from tests.harness.zookeepers import Provider

ALL_FOR_OWNER = [make_digest_acl(*OWNER.split(":"), all=True)]
WORLD_READS = make_acl("world", "anyone", read=True)


@pytest.fixture
def owner(server: Provider, connect: Connect) -> KazooClient:
    return connect(server.address, auth_data=[("digest", OWNER)])


@pytest.fixture
def mine(owner: KazooClient, root: str) -> str:
    """A znode that its owner may change and the world may read."""
    return owner.create(f"{root}/mine", b"mine", acl=[*ALL_FOR_OWNER, WORLD_READS])


def test_the_world_reads_what_it_may_and_writes_nothing(zk: KazooClient, mine: str) -> None:
    assert zk.get(mine)[0] == b"mine"
    for forbidden in (
        lambda: zk.set(mine, b"theirs"),
        lambda: zk.create(f"{mine}/child"),
        lambda: zk.set_acls(mine, OPEN_ACL_UNSAFE),
    ):
        with pytest.raises(NoAuthError):
            forbidden()


def test_the_owner_does_as_it_likes(zk: KazooClient, owner: KazooClient, mine: str) -> None:
    owner.set(mine, b"changed")
    child = owner.create(f"{mine}/child", acl=ALL_FOR_OWNER)
    with pytest.raises(NoAuthError):
        zk.delete(child)  # DELETE is a permission of the parent
    owner.delete(child)


def test_without_read_permission_data_and_children_are_hidden(zk: KazooClient, owner: KazooClient, root: str) -> None:
    path = owner.create(f"{root}/hidden", b"secret", acl=ALL_FOR_OWNER)
    assert zk.exists(path) is not None
    for read in (zk.get, zk.get_children, zk.get_acls):
        with pytest.raises(NoAuthError):
            read(path)


def test_a_wrong_password_is_another_identity(server: Provider, connect: Connect, mine: str) -> None:
    liar = connect(server.address, auth_data=[("digest", "node:guess")])
    with pytest.raises(NoAuthError):
        liar.set(mine, b"theirs")


def test_identity_can_be_proved_later(zk: KazooClient, mine: str) -> None:
    zk.add_auth("digest", OWNER)
    zk.set(mine, b"proved")


def test_creator_all_stands_for_whoever_creates(zk: KazooClient, owner: KazooClient, root: str) -> None:
    path = owner.create(f"{root}/creator", acl=CREATOR_ALL_ACL)
    assert owner.get_acls(path)[0] == ALL_FOR_OWNER
    with pytest.raises(InvalidACLError):
        zk.create(f"{root}/nobody", acl=CREATOR_ALL_ACL)


@pytest.mark.parametrize("acl", [[], [ACL(31, Id("nonsense", "x"))], [ACL(31, Id("digest", "no-colon"))]])
def test_an_acl_that_means_nothing_is_refused(zk: KazooClient, root: str, acl: list[ACL]) -> None:
    with pytest.raises(InvalidACLError):
        zk.set_acls(root, acl)


def test_set_acls_counts_in_aversion_alone(zk: KazooClient, owner: KazooClient, mine: str) -> None:
    before = zk.exists(mine)
    after = owner.set_acls(mine, ALL_FOR_OWNER, version=0)
    assert before is not None
    assert after == before._replace(aversion=1)
    with pytest.raises(BadVersionError):
        owner.set_acls(mine, ALL_FOR_OWNER, version=0)
    with pytest.raises(NoAuthError):
        zk.get(mine)


def test_digests_are_shown_to_the_admin_alone(zk: KazooClient, owner: KazooClient, mine: str) -> None:
    assert owner.get_acls(mine)[0] == [*ALL_FOR_OWNER, WORLD_READS]
    assert zk.get_acls(mine)[0] == [ACL(Permissions.ALL, Id("digest", "node:x")), WORLD_READS]


def test_a_transaction_obeys_the_acls(zk: KazooClient, root: str, mine: str) -> None:
    transaction = zk.transaction()
    transaction.create(f"{root}/allowed", b"")
    transaction.set_data(mine, b"theirs")
    transaction.create(f"{root}/never", b"")
    results = transaction.commit()
    assert [type(result) for result in results[1:]] == [NoAuthError, RuntimeInconsistency]
    assert zk.exists(f"{root}/allowed") is None


def test_a_sessions_end_deletes_its_ephemerals_whatever_the_acl_says(
    zk: KazooClient, owner: KazooClient, root: str
) -> None:
    parent = owner.create(f"{root}/parent", acl=[*ALL_FOR_OWNER, WORLD_READS])
    owner.create(f"{parent}/e", acl=ALL_FOR_OWNER, ephemeral=True)
    owner.stop()
    assert zk.get_children(parent) == []
    owner.start()


def test_an_unknown_scheme_fails_the_authentication(server: Provider, zk: KazooClient, connect: Connect) -> None:
    client = connect(server.address)
    with pytest.raises(AuthFailedError):
        client.add_auth("nonsense", "x")
