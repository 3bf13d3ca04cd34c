"""The arms of an A/B rollout: which devices are in arm B, by a stable hash. Pure.

The hash is the one by which an agent divides requests (`edge_agent.doubt.routing`): BLAKE2b of the
experiment's name and the key, in thousandths. Here the key is the device's id: whole devices are in one arm.
"""

from __future__ import annotations

from hashlib import blake2b

from pydantic import Field

from edge_fleet.model import Frozen, Identifier

PER_MILLE = 1000


class Experiment(Frozen):
    """Which devices are in arm B.

    Args:
        name: Salts the hash, so that two experiments divide the devices independently.
        share: Of the devices, in thousandths at the finest; a larger one holds every device of a smaller one.
    """

    name: Identifier = Field(description="name of the experiment: letters, digits, - and _")
    share: float = Field(ge=0.001, le=0.999, description="share of the devices in arm B, 0.001 to 0.999")

    def has(self, device: str) -> bool:
        """Whether a device is in arm B."""
        return bucket(self.name, device) < round(self.share * PER_MILLE)


def bucket(salt: str, key: str) -> int:
    """Where a key falls, 0 to 999, each equally likely."""
    # with lengths in front, ("ab", "c") and ("a", "bc") are different
    text = f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
    return number * PER_MILLE >> 64
