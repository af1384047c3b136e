"""What the flapping guard must not forget when another process publishes, as bytes: signed like the ring. Pure.

A node that crashes again and again is kept out for a while. Its leaves and exclusions are counted by one process, and a
lookup's restart would otherwise let it in again each time.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from ringway.core.errors import DocumentCorrupt, DocumentError, DocumentForged, InvalidInput
from ringway.core.keys import KeyRing
from ringway.core.members import NodeRecord

from .guard_state import GuardOptions, Track

_PURPOSE = "flapping"


def remembered(tracks: Mapping[str, Track], options: GuardOptions, now: float) -> dict[str, Track]:
    """Those that a next publisher has to know of, as it begins with them: it has seen none of them itself."""
    return {node_id: _unseen(track) for node_id, track in tracks.items() if _matters(track, options, now)}


def to_bytes(tracks: Mapping[str, Track], keys: KeyRing, now: float, wall_s: float) -> bytes:
    """The signed bytes. Times become unix seconds: each process has a monotonic clock of its own."""
    nodes = {node_id: _as_json(track, wall_s - now) for node_id, track in tracks.items()}
    kid = keys.active_kid
    return orjson.dumps({"nodes": nodes, "kid": kid, "mac": keys.mac(_PURPOSE, kid, _signed_part(nodes))})


def parse(data: bytes, keys: KeyRing, options: GuardOptions, now: float, wall_s: float) -> dict[str, Track]:
    """Read and verify. What is older than the longest exclusion is left out, so that nothing old can be put back.

    Raises:
        DocumentForged, DocumentCorrupt: as for a ring document.
    """
    try:
        raw = orjson.loads(data)
        nodes, kid, mac = dict(raw["nodes"]), str(raw["kid"]), str(raw["mac"])
        if not keys.knows(kid):
            raise DocumentForged(f"signed with key {kid!r}, which is not in RINGWAY_KEYS")
        if not hmac.compare_digest(keys.mac(_PURPOSE, kid, _signed_part(nodes)).encode(), mac.encode()):
            raise DocumentForged(f"the signature by key {kid!r} does not hold")
        tracks = {str(node_id): _track(entry, now, wall_s - now) for node_id, entry in nodes.items()}
    except DocumentError:
        raise
    except (KeyError, TypeError, ValueError, InvalidInput) as error:
        raise DocumentCorrupt(f"unreadable ({type(error).__name__}: {error})") from error
    return {node_id: track for node_id, track in tracks.items() if not _is_past(track, options, now)}


def _unseen(track: Track) -> Track:
    """Without the boot id: by the time it matters the node may have been started again, which is no sign of death."""
    return Track(
        replace(track.record, boot_id=""), present=False, leaves=track.leaves, strikes=track.strikes,
        excluded=track.excluded,
    )  # fmt: skip


def _matters(track: Track, options: GuardOptions, now: float) -> bool:
    return track.excluded or track.strikes > 0 or any(now - t < options.flap_window_s for t in track.leaves)


def _is_past(track: Track, options: GuardOptions, now: float) -> bool:
    return bool(track.leaves) and now - track.leaves[-1] > options.flap_max_s


def _as_json(track: Track, offset: float) -> dict[str, Any]:
    return {
        "record": orjson.loads(track.record.to_bytes()), "leaves": [t + offset for t in track.leaves],
        "strikes": track.strikes, "excluded": track.excluded,
    }  # fmt: skip


def _track(entry: Mapping[str, Any], now: float, offset: float) -> Track:
    leaves = tuple(min(float(t) - offset, now) for t in entry["leaves"])  # a clock may be ahead of ours
    record = NodeRecord.parse(orjson.dumps(entry["record"]))
    return Track(record, False, leaves=leaves, strikes=int(entry["strikes"]), excluded=bool(entry["excluded"]))


def _signed_part(nodes: Mapping[str, Any]) -> bytes:
    return orjson.dumps(nodes, option=orjson.OPT_SORT_KEYS)
