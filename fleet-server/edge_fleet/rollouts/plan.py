"""A rollout plan: which release, for whom, in which shares, watched by which gates. Immutable.

    format = "edgefleet.rollout/1"
    release = "digits@2.0.0"
    select = "profile=arm-cpu,site=lab"
    stages = ["1", "50%", "100%"]
    bake_s = 600
    [gates]
    error_rate = 0.02
    latency_p95 = { limit = 1.5, min_inferences = 500, against = "before" }

A plan is refused when it is made, not when it runs: an unknown gate or key is named with the nearest.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from edge_contracts.model import Frozen, parse_object, require_format
from edge_fleet.gates import GATES, GateLimit
from edge_fleet.rollouts import selector

FORMAT = "edgefleet.rollout/1"
_RELEASE = re.compile(r"^([A-Za-z0-9_-]{1,64})@([A-Za-z0-9][A-Za-z0-9._+-]{0,63})$")
_STAGE = re.compile(r"^(\d{1,7})$|^(\d{1,3}(?:\.\d{1,3})?)%$")


class Stage(Frozen):
    """How many of the selected devices have been reached when the stage has begun: all before included.

    Args:
        count: Devices, or None when it is a share.
        percent: Share of the selected devices, over 0 to 100, or None when it is a count.
    """

    count: int | None = Field(default=None, ge=1)
    percent: float | None = Field(default=None, gt=0, le=100)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        """Read "3" and "50%" as people write them."""
        if isinstance(raw, int) and not isinstance(raw, bool):
            return {"count": raw}
        if not isinstance(raw, str):
            return raw
        found = _STAGE.match(raw.strip())
        if found is None:
            raise ValueError(f"stage {raw!r} is neither a count such as 3 nor a share such as 50%")
        count, percent = found.groups()
        return {"count": int(count)} if count else {"percent": float(percent)}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.count is None) == (self.percent is None):
            raise ValueError("a stage has either a count or a percent")
        return self

    def target(self, selected: int) -> int:
        """Devices reached in all, of so many selected; a share is rounded up."""
        if self.count is not None:
            return min(self.count, selected)
        assert self.percent is not None
        # rounding errors of the product must not add a device: 0.07 * 100 is 7.000000000000001
        return math.ceil(round(self.percent * selected / 100, 9))

    def __str__(self) -> str:
        """As people write it."""
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


class RolloutPlan(Frozen):
    """Which release goes to whom, and what must hold before it goes on.

    Args:
        release: NAME@VERSION.
        select: As `selector.py` reads it.
        stages: Ascending; a stage states the devices reached in all.
        bake_s: How long a settled stage is watched before its gates may pass, seconds.
        quorum: Share of the stage's devices that must have answered before it bakes, and must have
            reported inferences before it passes, over 0 to 1.
        silence_s: A device that says nothing for so long no longer holds the stage up, seconds.
        permit_downgrade: Reach devices that have confirmed a later release, with a signed permission.
        gates: By name; what is not named is not asked.
        false_halt: Chance that a good release is halted, over the whole rollout and all its gates.
        stray: Chance that a device which was well begins to fail outright by itself while it is watched.
    """

    format: Literal["edgefleet.rollout/1"]
    release: Annotated[str, StringConstraints(pattern=_RELEASE.pattern)]
    select: Annotated[str, StringConstraints(max_length=1000)] = selector.ALL
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=100)
    bake_s: float = Field(default=300.0, ge=0, le=30 * 86400)
    quorum: float = Field(default=0.8, gt=0, le=1)
    silence_s: float = Field(default=900.0, gt=0, le=30 * 86400)
    permit_downgrade: bool = False
    gates: Mapping[str, GateLimit] = Field(default_factory=lambda: default_gates())
    false_halt: float = Field(default=0.01, ge=1e-6, le=0.5)
    stray: float = Field(default=1e-4, ge=1e-6, le=0.1)

    @field_validator("select")
    @classmethod
    def _readable(cls, text: str) -> str:
        selector.parse(text)
        return text

    @field_validator("gates")
    @classmethod
    def _known_and_in_range(cls, gates: Mapping[str, GateLimit]) -> Mapping[str, GateLimit]:
        for name, gate in gates.items():
            known = GATES.get(name)
            if known is None:
                near = difflib.get_close_matches(name, list(GATES), n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown gate {name!r}{hint} Known: {', '.join(sorted(GATES))}")
            if not known.lowest <= gate.limit <= known.highest:
                raise ValueError(
                    f"gate {name} has limit {gate.limit:g}, expected {known.lowest:g} to {known.highest:g} "
                    f"({known.unit})"
                )
            if gate.against is not None and gate.against not in known.against:
                raise ValueError(
                    f"gate {name} cannot be held against {gate.against!r}, expected one of: "
                    + ", ".join(known.against)
                )
        return gates

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        # a count and a share can be compared only when the devices are known
        for kind in ("count", "percent"):
            alike = [stage for stage in self.stages if getattr(stage, kind) is not None]
            for earlier, later in itertools.pairwise(alike):
                if getattr(later, kind) <= getattr(earlier, kind):
                    raise ValueError(
                        f"stage {later} comes after {earlier}; a stage states the devices reached in all, "
                        "so it must be larger than the one before"
                    )
        return self

    @property
    def model(self) -> str:
        """Name of the release."""
        return self.release.split("@")[0]

    @property
    def version(self) -> str:
        """Version of the release."""
        return self.release.split("@")[1]


def default_gates() -> dict[str, GateLimit]:
    """Every gate that has a limit which suits most, at that limit."""
    return {name: GateLimit(limit=gate.default) for name, gate in GATES.items() if gate.default is not None}


def parse_plan(raw: Any, what: str = "rollout plan") -> RolloutPlan:
    """Turn a parsed document into a plan, or refuse on one line.

    Raises:
        FormatInvalid: An unknown key or gate, a missing or wrong value.
        FormatTooNew: Another version of the format.
    """
    require_format(raw, FORMAT, what)
    return parse_object(RolloutPlan, raw, what)
