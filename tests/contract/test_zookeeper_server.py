"""What ringway asks of a ZooKeeper, run alike against the embedded development server and a real one: znodes."""

from __future__ import annotations

import queue
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.serialization import Create
from kazoo.protocol.states import ZnodeStat
from kazoo.security import OPEN_ACL_UNSAFE

from tests.harness.zookeepers import Provider


def stat(zk: KazooClient, path: str) -> ZnodeStat:
    found = zk.exists(path)
    assert found is not None
    return found


def test_a_new_znode_carries_its_data_and_a_fresh_stat(zk: KazooClient, root: str) -> None:
    path, made = zk.create(f"{root}/a", b"four", include_data=True)
    data, read = zk.get(path)
    assert (path, data) == (f"{root}/a", b"four")
    assert made == read == stat(zk, path)
    assert (read.version, read.cversion, read.aversion) == (0, 0, 0)
    assert (read.ephemeralOwner, read.dataLength, read.numChildren) == (0, 4, 0)
    assert read.czxid == read.mzxid == read.pzxid
    assert read.ctime == read.mtime > 1_600_000_000_000


def test_set_changes_version_mzxid_and_mtime_of_the_znode_and_nothing_of_its_parent(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a", b"1")
    parent, before = stat(zk, root), stat(zk, f"{root}/a")
    after = zk.set(f"{root}/a", b"22")
    assert (after.version, after.dataLength) == (1, 2)
    assert after.mzxid > before.mzxid
    assert (after.czxid, after.pzxid, after.ctime) == (before.czxid, before.pzxid, before.ctime)
    assert stat(zk, root) == parent


def test_create_and_delete_of_a_child_count_in_cversion_and_pzxid_of_the_parent(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a")
    created = stat(zk, root)
    assert (created.cversion, created.numChildren, created.version) == (1, 1, 0)
    assert created.pzxid == stat(zk, f"{root}/a").czxid
    zk.delete(f"{root}/a")
    deleted = stat(zk, root)
    assert (deleted.cversion, deleted.numChildren) == (2, 0)
    assert deleted.pzxid > created.pzxid


def test_grandchildren_leave_the_stat_alone(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a")
    before = stat(zk, root)
    zk.create(f"{root}/a/b")
    zk.delete(f"{root}/a/b")
    assert stat(zk, root) == before


def test_sequence_numbers_count_every_child_ever_created(zk: KazooClient, root: str) -> None:
    assert zk.create(f"{root}/s-", sequence=True) == f"{root}/s-0000000000"
    zk.create(f"{root}/plain")
    zk.delete(f"{root}/plain")
    assert zk.create(f"{root}/t-", sequence=True) == f"{root}/t-0000000002"
    assert zk.create(f"{root}/", sequence=True, ephemeral=True) == f"{root}/0000000003"


def test_null_and_empty_data_are_told_apart(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/empty", b"")
    assert zk.get(f"{root}/empty")[0] == b""
    zk.set(f"{root}/empty", None)
    data, after = zk.get(f"{root}/empty")
    assert (data, after.dataLength) == (None, 0)


def test_paths_and_data_are_bytes_of_any_language(zk: KazooClient, root: str) -> None:
    path = zk.create(f"{root}/用户7 é", bytes(range(256)))
    assert zk.get(path)[0] == bytes(range(256))
    assert zk.get_children(root) == ["用户7 é"]


def test_children_come_with_the_stat_of_their_parent(zk: KazooClient, root: str) -> None:
    for name in "abc":
        zk.create(f"{root}/{name}")
    children, parent = zk.get_children(root, include_data=True)
    assert sorted(children) == ["a", "b", "c"]
    assert parent == stat(zk, root)


def test_what_is_not_there_is_no_node(zk: KazooClient, root: str) -> None:
    assert zk.exists(f"{root}/no") is None
    for ask in (zk.get, zk.get_children, zk.delete, zk.get_acls, lambda path: zk.set(path, b"")):
        with pytest.raises(NoNodeError):
            ask(f"{root}/no")
    with pytest.raises(NoNodeError):
        zk.create(f"{root}/no/child")


def test_what_is_there_cannot_be_created_again(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a", b"first")
    with pytest.raises(NodeExistsError):
        zk.create(f"{root}/a", b"second")
    assert zk.get(f"{root}/a")[0] == b"first"


def test_a_parent_with_children_cannot_be_deleted(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a/b", makepath=True)
    with pytest.raises(NotEmptyError):
        zk.delete(f"{root}/a")


def test_an_ephemeral_has_no_children(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/e", ephemeral=True)
    with pytest.raises(NoChildrenForEphemeralsError):
        zk.create(f"{root}/e/child")


def test_a_wrong_version_changes_nothing(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/a", b"1")
    zk.set(f"{root}/a", b"2", version=0)
    with pytest.raises(BadVersionError):
        zk.set(f"{root}/a", b"3", version=0)
    with pytest.raises(BadVersionError):
        zk.delete(f"{root}/a", version=0)
    assert zk.get(f"{root}/a")[0] == b"2"
    zk.delete(f"{root}/a", version=1)


BAD_PATHS = ["x", "//x", "/zookeeper/", "/.", "/..", "/zookeeper/..", "/x\0y", "/x\x1fy", "/x\x9fy", "/x\ue000y"]


@pytest.mark.parametrize("bad", BAD_PATHS)
def test_a_bad_path_is_a_bad_argument(zk: KazooClient, bad: str) -> None:
    with pytest.raises(BadArgumentsError):
        create_as_is(zk, bad)


@pytest.mark.parametrize("orphan", ["/contract-no/", "/./x", "/contract-no/.."])
def test_a_missing_parent_is_told_before_a_bad_name(zk: KazooClient, orphan: str) -> None:
    with pytest.raises(NoNodeError):
        create_as_is(zk, orphan)


def create_as_is(zk: KazooClient, path: str) -> None:
    """Past kazoo's own tidying of paths."""
    answer = zk.handler.async_result()
    zk._call(Create(path, b"", OPEN_ACL_UNSAFE, 0), answer)
    answer.get(timeout=5)


def test_roots_own_nodes_cannot_be_deleted(zk: KazooClient) -> None:
    for path in ("/", "/zookeeper", "/zookeeper/quota"):
        with pytest.raises(BadArgumentsError):
            zk.delete(path)


def test_more_than_a_megabyte_closes_the_connection_and_keeps_the_session(zk: KazooClient, root: str) -> None:
    session = zk.client_id
    zk.create(f"{root}/large", b"x" * 1_000_000)
    with pytest.raises(ConnectionLoss):
        zk.create(f"{root}/larger", b"x" * 1_200_000)
    assert zk.retry(zk.exists, f"{root}/larger") is None
    assert zk.client_id == session


def test_pipelined_requests_are_answered_in_order(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/n", b"")
    writes = [zk.set_async(f"{root}/n", str(number).encode()) for number in range(300)]
    assert [write.get(timeout=10).version for write in writes] == list(range(1, 301))


def test_sync_answers_its_path(zk: KazooClient, root: str) -> None:
    assert zk.sync(root) == root


def test_a_transaction_is_one_zxid_and_sees_its_own_writes(zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/old", b"1")
    transaction = zk.transaction()
    transaction.check(f"{root}/old", 0)
    transaction.create(f"{root}/new", b"2")
    transaction.create(f"{root}/new/child", b"3", ephemeral=True)
    transaction.set_data(f"{root}/new", b"4")
    transaction.delete(f"{root}/old", 0)
    results = transaction.commit()
    assert results[0:3] == [True, f"{root}/new", f"{root}/new/child"]
    assert (results[3].version, results[4]) == (1, True)
    zxids = {stat(zk, f"{root}/new").czxid, stat(zk, f"{root}/new/child").czxid, stat(zk, root).pzxid, results[3].mzxid}
    assert len(zxids) == 1
    assert stat(zk, f"{root}/new/child").ephemeralOwner == zk.client_id[0]


def test_a_refused_transaction_tells_each_operation_its_fate_and_changes_nothing(
    zk: KazooClient, other: KazooClient, root: str
) -> None:
    fired: queue.Queue[Any] = queue.Queue()
    zk.create(f"{root}/a", b"1")
    other.get_children(root, watch=fired.put)
    other.get(f"{root}/a", watch=fired.put)
    other.exists(f"{root}/b", watch=fired.put)
    before = stat(zk, root), zk.get(f"{root}/a")
    transaction = zk.transaction()
    transaction.create(f"{root}/b", b"")
    transaction.create(f"{root}/s-", b"", sequence=True)
    transaction.set_data(f"{root}/a", b"2")
    transaction.check(f"{root}/a", 7)
    transaction.delete(f"{root}/a")
    fates = [type(result) for result in transaction.commit()]
    assert fates == [RolledBackError, RolledBackError, RolledBackError, BadVersionError, RuntimeInconsistency]
    assert (stat(zk, root), zk.get(f"{root}/a")) == before
    other.sync(root)  # after it, every event of what happened before is here
    assert fired.empty()
    assert zk.create(f"{root}/s-", sequence=True) == f"{root}/s-0000000001"


def test_a_transaction_that_deletes_and_creates_the_same_path_takes_it_over(
    zk: KazooClient, other: KazooClient, root: str
) -> None:
    """How a restarted node takes its ghost's place: background, section 2.1."""
    zk.create(f"{root}/node", b"boot 1", ephemeral=True)
    transaction = other.transaction()
    transaction.delete(f"{root}/node", 0)
    transaction.create(f"{root}/node", b"boot 2", ephemeral=True)
    assert transaction.commit() == [True, f"{root}/node"]
    zk.stop()  # the ghost's session ends; what it no longer owns stays
    assert stat(other, f"{root}/node").ephemeralOwner == other.client_id[0]
    zk.start()


def test_a_zombies_write_is_refused_by_its_missing_fence(zk: KazooClient, root: str) -> None:
    """Section 2.3: each publish checks the writer's own ephemeral and the version it expects."""
    zk.create(f"{root}/ring", b"1")
    transaction = zk.transaction()
    transaction.check(f"{root}/leader-of-an-ended-session", 0)
    transaction.set_data(f"{root}/ring", b"zombie", 0)
    assert [type(result) for result in transaction.commit()] == [NoNodeError, RuntimeInconsistency]
    assert zk.get(f"{root}/ring")[0] == b"1"


def test_srvr_says_how_it_serves(server: Provider) -> None:
    assert "Mode: " in server.srvr()
    assert "Zxid: 0x" in server.srvr()
