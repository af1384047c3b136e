"""From names to 64-bit positions on the ring.

`xxh64-v1` uses Envoy's layout (`RingHashLoadBalancerTest.Basic`): virtual node i of a node sits at
xxh64("<node_id>_<i>"), and the separator keeps "n1"+"1_0" apart from "n11"+"_0". `blake2b-keyed-v1` keeps the points
and hashes uids with a secret, for deployments whose users choose their uids: without the key nobody can aim
many uids at one node.

The two algorithms need one C function, and it comes from a wheel (xxhash); nothing is guessed where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b, sha256

import xxhash

from .errors import ConfigError

XXH64 = "xxh64-v1"
BLAKE2B_KEYED = "blake2b-keyed-v1"
ALGORITHMS = (XXH64, BLAKE2B_KEYED)
MAX_KEY_BYTES = blake2b.MAX_KEY_SIZE


@dataclass(frozen=True, slots=True)
class Hashing:
    """A named rule: uid -> position, (node id, i) -> position. Positions are 0..2**64-1.

    `name` is what the ring document records as `alg`; with a key it ends in the key's fingerprint, so that
    two processes with different keys find out instead of disagreeing about owners.
    """

    name: str
    key: Callable[[str], int]
    point: Callable[[str, int], int]


def hashing(alg: str, hash_key: bytes | None = None) -> Hashing:
    """The rule named `alg`.

    Args:
        alg: one of `ALGORITHMS`.
        hash_key: 16 to 64 secret bytes; needed by, and only by, blake2b-keyed-v1.

    Raises:
        ConfigError: unknown name, or a key missing, superfluous, too short or too long.
    """
    if alg == XXH64:
        if hash_key is not None:
            raise ConfigError("hash key", "(set)", f"only {BLAKE2B_KEYED} takes one; unset it or choose that algorithm")
        return Hashing(XXH64, _xxh64_key, _xxh64_point)
    if alg == BLAKE2B_KEYED:
        return _keyed(hash_key)
    raise ConfigError("alg", alg, f"must be one of {', '.join(ALGORITHMS)}")


def _keyed(hash_key: bytes | None) -> Hashing:
    if hash_key is None or not 16 <= len(hash_key) <= MAX_KEY_BYTES:
        length = "missing" if hash_key is None else f"{len(hash_key)} bytes"
        raise ConfigError("hash key", length, f"{BLAKE2B_KEYED} needs a secret of 16 to {MAX_KEY_BYTES} bytes")
    secret = hash_key

    def key(uid: str) -> int:
        return int.from_bytes(blake2b(uid.encode(), digest_size=8, key=secret).digest(), "big")

    fingerprint = sha256(b"ringway hash key\0" + secret).hexdigest()[:8]
    return Hashing(f"{BLAKE2B_KEYED}/{fingerprint}", key, _xxh64_point)


# xxhash >= 4 refuses str (ifduyue/python-xxhash#187); bytes give the same digests in 3.x and 4.x.
def _xxh64_key(uid: str) -> int:
    return xxhash.xxh64_intdigest(uid.encode())


def _xxh64_point(node_id: str, i: int) -> int:
    return xxhash.xxh64_intdigest(f"{node_id}_{i}".encode())
