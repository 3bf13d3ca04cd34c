"""What a gate may spend, what it allows and what it answers. Plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from edge_fleet.model import Frozen

MIN_INFERENCES = 200  # a p95 then rests on the ten slowest; drift needs 50
Against = Literal["limit", "before", "control"]
Number = float | int | str | bool | None


class Outcome(StrEnum):
    """What a gate answers."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"


@dataclass(frozen=True)
class Verdict:
    """A gate's answer.

    Args:
        reason: One line with what was found and what was expected.
        evidence: The numbers behind it, a row for each bundle; names as in docs/rollouts.md.
    """

    gate: str
    outcome: Outcome
    reason: str
    evidence: tuple[Mapping[str, Number], ...] = ()


@dataclass(frozen=True)
class Finding:
    """A gate's answer for one bundle."""

    outcome: Outcome
    reason: str
    numbers: Mapping[str, Number] = field(default_factory=dict)


class GateLimit(Frozen):
    """What one gate allows.

    Args:
        limit: In the gate's own unit; against "before" and "control" it is what the release may be worse by.
        against: What the release is held to: the limit itself, the release before on the same
            devices, or devices that run it at the same time; None: as the gate does by default.
        min_inferences: Evidence of every bundle below which the gate waits.
        min_devices: Devices of every bundle that must have reported.
    """

    limit: float = Field(description="a number in the gate's own unit, or what the release may be worse by")
    against: Against | None = Field(
        default=None,
        description="limit, before (the release before) or control (devices that run it meanwhile)",
    )
    min_inferences: int = Field(
        default=MIN_INFERENCES, ge=1, description="inferences of each bundle below which it waits, 1 or more"
    )
    min_devices: int = Field(
        default=1, ge=1, description="devices of each bundle below which it waits, 1 or more"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, raw: Any) -> Any:
        """Read a bare number as the limit."""
        return {"limit": raw} if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


@dataclass(frozen=True)
class Budget:
    """What one gate may be wrong with, for one bundle.

    Args:
        alpha: Chance of a false FAIL over the whole rollout, however often it is asked.
        stray: Chance that a device which was well begins to fail outright by itself while it is watched.
        doubt: Chance of passing what is at its limit, over all looks.
    """

    alpha: float = 0.002
    stray: float = 1e-4
    doubt: float = 0.05

    @classmethod
    def split(cls, false_halt: float, gates: int, bundles: int, stray: float) -> Budget:
        """Each gate's and bundle's part of a rollout's chance of a false halt (Bonferroni)."""
        return cls(alpha=false_halt / (max(1, gates) * max(1, bundles)), stray=stray)

    @property
    def needed(self) -> float:
        """Log wealth at which one of the two tests of a gate fails the release; they share alpha."""
        return math.log(2 / self.alpha)
