"""The parts of a stage: what its devices are given before they are given the release to run it. Pure.

A stage of most rollouts has one part, the switch. Of kind shadow-first it has two: its devices first run the
release beside what answers, on a share of the same inputs; when the gates on that pass, the same devices are
given it to run. Of kind blue-green its devices first bring it and check it; when a quorum has it ready, all
that have are told to switch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from edge_contracts.lineup import ShadowTerms
from edge_fleet.assignment import State
from edge_fleet.model import Frozen


class Part(StrEnum):
    """What the devices of a stage are given now."""

    SHADOW = "shadow"  # the release as a shadow of what they run
    READY = "ready"  # the release, to have it ready in the spare slot
    SWITCH = "switch"  # the release, to run it


# Where the assignment of a first part has come to when all is well: from here the device can be switched.
PREPARED: Mapping[Part, State] = {Part.SHADOW: State.SHADOW, Part.READY: State.READY}


class Unable(StrEnum):
    """What becomes of a device that cannot take the first part."""

    SKIP = "skip"  # it is not given the release
    SWITCH = "switch"  # it is given it with the others' switch


UNABLE = "of devices that cannot: skip, or switch (given it when the others switch)"


class ShadowPlan(Frozen):
    """On what terms a release runs as a shadow first.

    Args:
        bake_s: How long settled shadows are watched; None: as long as the stage.
    """

    share: float = Field(default=0.1, ge=0.001, le=1, description="share of the inputs, 0.001 to 1")
    cpu: float = Field(default=0.1, gt=0, le=1, description="share of one core, over 0 to 1")
    memory_mb: int = Field(default=256, ge=1, le=1 << 20, description="of its process, at least 1")
    latency_ms: float = Field(
        default=2000, gt=0, le=3_600_000, description="one inference may take so long, over 0 to 3600000"
    )
    bake_s: Annotated[float, Field(ge=0, le=30 * 86400)] | None = Field(
        default=None, description="seconds that shadows are watched, 0 to 2592000 (30 days)"
    )
    unable: Unable = Field(default=Unable.SKIP, description=UNABLE)

    @property
    def terms(self) -> ShadowTerms:
        """In the words of the contract."""
        return ShadowTerms(
            per_mille=round(self.share * 1000),
            cpu_share=self.cpu,
            memory_bytes=self.memory_mb << 20,
            latency_ms=self.latency_ms,
        )


class BlueGreenPlan(Frozen):
    """How a release is brought first, and switched to at once."""

    unable: Unable = Field(default=Unable.SKIP, description=UNABLE)


def part_of(terms: Mapping[str, Any] | None) -> Part:
    """The part that an assignment's terms, as they are stored, belong to."""
    if not terms:
        return Part.SWITCH
    return Part.SHADOW if "shadow" in terms else Part.READY
