"""Which arm of an experiment answers a request: the same key always the same arm. Pure.

Also the choice of what a shadow sees. Hashing instead of drawing lots keeps a client on one model
over restarts, on every device, with nothing to remember.
"""

from __future__ import annotations

from hashlib import blake2b

PER_MILLE = 1000


def bucket(salt: str, key: str) -> int:
    """Where a key falls, 0 to 999, each equally likely.

    Args:
        salt: Name of the experiment, so that two experiments divide the keys independently.
    """
    # with lengths in front, ("ab", "c") and ("a", "bc") are different
    text = f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return number * PER_MILLE >> 64


def is_chosen(salt: str, key: str, per_mille: int) -> bool:
    """Whether a key belongs to the share of so many parts in a thousand.

    A larger share holds every key that a smaller one held.
    """
    return bucket(salt, key) < per_mille
