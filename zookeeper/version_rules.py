"""Which number the next ring document gets. Pure.

Documents are ordered by (gen, epoch), and there must never be two of one number. Inside one history of ZooKeeper the
compare-and-set of the ring znode sees to that. When ZooKeeper lost its data or was restored from a backup, nobody
knows for certain which numbers were given out last, so that is a new history: a new gen, later than every earlier one.
See docs/decisions/0020-a-wipe-starts-a-new-gen.md.
"""

from __future__ import annotations

from ringway.core.members import RingDocument, Version

PATIENCE_S = 5.0


def newest(*documents: RingDocument | None) -> RingDocument | None:
    """The document with the highest (gen, epoch); the first of them where several have it."""
    return max((d for d in documents if d is not None), key=lambda d: d.version, default=None)


def is_lost(known: RingDocument | None, standing: RingDocument | None) -> bool:
    """Whether what stands in ZooKeeper is not what was published: gone, older, or another one of the same number."""
    if known is None:
        return False
    if standing is None or standing.version < known.version:
        return True
    return standing.version == known.version and standing.checksum != known.checksum


def wait_s(last: RingDocument, wall_s: float) -> float:
    """Seconds until the clock is past the last gen, so that a new one can be told from any that others may give out.

    0.0 where it is, or where it is so far behind that one of the clocks must be wrong.
    """
    ahead = last.gen + 1 - wall_s
    return ahead if 0.0 < ahead <= PATIENCE_S else 0.0


def next_version(
    known: RingDocument | None, standing: RingDocument | None, wall_s: float, *, vouched: bool = True
) -> Version:
    """The number for the document that follows.

    Args:
        known: the newest document that has ever been seen, wherever (memory, mirror).
        standing: the one that stands in ZooKeeper, if it verifies.
        wall_s: unix seconds.
        vouched: whether a copy elsewhere was there to compare with what stands in ZooKeeper. If not, a backup may be
            speaking, and numbers after its last may be taken.
    """
    last = newest(known, standing)
    if last is None:
        return Version(int(wall_s), 1)
    if not vouched or is_lost(known, standing):
        return Version(max(int(wall_s), last.gen + 1), last.epoch + 1)
    return Version(last.gen, last.epoch + 1)
