"""Which number the next ring document gets. Pure.

Documents are ordered by (gen, epoch), and there must never be two of one number. While one publisher is in office and
ZooKeeper keeps its data, the compare-and-set of the ring znode sees to that. Who takes office, or finds that ZooKeeper
has lost or aged its data, cannot know which numbers were given out last, so it begins a new gen: the second in which it
does so, which is later than every one that was begun before.
See docs/decisions/0020-gen-is-the-publishers-term.md.
"""

from __future__ import annotations

from ringway.core.members import RingDocument, Version

PATIENCE_S = 5.0


def newest(*documents: RingDocument | None) -> RingDocument | None:
    """The document with the highest (gen, epoch); the first of them where several have it."""
    return max((d for d in documents if d is not None), key=lambda d: d.version, default=None)


def same(one: RingDocument | None, other: RingDocument | None) -> bool:
    """Whether they are one document, or both none."""
    if one is None or other is None:
        return one is other
    return (one.version, one.checksum) == (other.version, other.checksum)


def is_lost(known: RingDocument | None, standing: RingDocument | None) -> bool:
    """Whether what stands in ZooKeeper is gone, older than what is known, or another one of the same number."""
    if known is None:
        return False
    if standing is None or standing.version < known.version:
        return True
    return standing.version == known.version and not same(standing, known)


def next_version(last: RingDocument) -> Version:
    """The number after `last`, by the publisher that is in office."""
    return Version(last.gen, last.epoch + 1)


def first_version(last: RingDocument | None, wall_s: float) -> Version:
    """The first number of a new gen.

    Args:
        last: the newest document known from anywhere.
        wall_s: unix seconds.
    """
    if last is None:
        return Version(int(wall_s), 1)
    return Version(max(int(wall_s), last.gen + 1), last.epoch + 1)


def wait_s(last: RingDocument | None, wall_s: float) -> float:
    """Seconds until the clock is past the last gen, so that the new one is not ahead of the clock.

    0.0 where it is, or where it is so far behind that one of the clocks must be wrong.
    """
    ahead = last.gen + 1 - wall_s if last is not None else 0.0
    return ahead if 0.0 < ahead <= PATIENCE_S else 0.0
