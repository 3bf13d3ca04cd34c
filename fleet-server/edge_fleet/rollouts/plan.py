"""A rollout plan: which release, for whom, in which shares, watched by which gates. Immutable.

    format: edgefleet.rollout/1
    release: digits@2.0.0
    select: profile=arm-cpu,site=lab
    stages: [ring=canary, 10%, 100%]
    rate: {per_minute: 50, factor: 2, after: 100}
    bake_s: 600
    on_failure: rollback-rollout
    gates:
      error_rate: 0.02
      latency_p95: {limit: 1.5, min_inferences: 500, against: before}

A plan is refused when it is made, not when it runs: a wrong field is named with what is expected of it.
Files are read by `plan_file.py`. Each field describes itself: the same words are in the JSON Schema, in
the template and in the refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge_contracts.model import require_format
from edge_contracts.nearest import meant
from edge_fleet.gates import GATES, GateLimit
from edge_fleet.model import Frozen
from edge_fleet.rollouts import selector
from edge_fleet.rollouts.arms import Experiment
from edge_fleet.rollouts.faults import parse
from edge_fleet.rollouts.pace import Rate
from edge_fleet.rollouts.parts import BlueGreenPlan, Part, ShadowPlan, Unable
from edge_fleet.rollouts.retries import Retries
from edge_fleet.rollouts.stages import FORM as STAGE_FORM
from edge_fleet.rollouts.stages import Stage, check_ascending
from edge_fleet.rollouts.windows import MaintenanceWindow, zone

FORMAT = "edgefleet.rollout/1"
_RELEASE = re.compile(r"^([A-Za-z0-9_-]{1,64})@([A-Za-z0-9][A-Za-z0-9._+-]{0,63})$")
MONTH_S = 30 * 86400


class Kind(StrEnum):
    """How a release comes to its devices."""

    STAGED = "staged"  # stage by stage, each watched before the next
    CANARY = "canary"  # a few, then all
    SHADOW_FIRST = "shadow-first"  # each stage as a shadow, and then to run
    BLUE_GREEN = "blue-green"  # each stage brought and checked, and then switched to at once
    AB = "ab"  # arm B of an experiment, a share of the devices by a stable hash; arm A stays as it is
    REHEARSAL = "rehearsal"  # installed, then taken back as if a gate had failed


class OnFailure(StrEnum):
    """What a failed gate, or a deadline, makes of the rollout."""

    ROLLBACK_STAGE = "rollback-stage"  # the devices of this stage go back; those before keep the release
    ROLLBACK_ROLLOUT = "rollback-rollout"  # every device reached goes back
    HOLD = "hold"  # nobody is begun or sent back until an operator says


class OnDeadline(StrEnum):
    """What a rollout that is not through by its deadline does."""

    STOP = "stop"  # devices keep what they have; why says who is left
    ROLLBACK_STAGE = "rollback-stage"
    ROLLBACK_ROLLOUT = "rollback-rollout"


class Join(StrEnum):
    """What becomes of devices that enrol after the start."""

    NEVER = "never"
    LAST_STAGE = "last-stage"  # they count from the stage that is at work, until the last has settled
    UNTIL_DEADLINE = "until-deadline"  # after the last stage, too: the rollout stays open for them


DEFAULT_STAGES = {Kind.CANARY: ("5%", "100%"), Kind.AB: ("100%",), Kind.REHEARSAL: ("100%",)}


class RolloutPlan(Frozen):
    """Which release goes to whom, and what must hold before it goes on; see the fields' descriptions."""

    format: Literal["edgefleet.rollout/1"] = Field(description="edgefleet.rollout/1")
    release: Annotated[str, StringConstraints(pattern=_RELEASE.pattern)] = Field(
        description="NAME@VERSION of a published release, such as digits@2.0.0"
    )
    kind: Kind = Field(
        default=Kind.STAGED,
        description="staged, canary (a few, then all), shadow-first, blue-green, ab (arm B only), rehearsal",
    )
    shadow: ShadowPlan | None = Field(
        default=None,
        description="of kind shadow-first: {share, cpu, memory_mb, latency_ms, bake_s, unable}",
    )
    blue_green: BlueGreenPlan | None = Field(
        default=None, description="of kind blue-green: {unable: skip or switch}, of devices that cannot wait"
    )
    experiment: Experiment | None = Field(
        default=None, description="of kind ab: {name: taste, share: 0.2}, the devices of arm B"
    )
    select: Annotated[str, StringConstraints(max_length=1000)] = Field(
        default=selector.ALL,
        description="all, or terms such as profile=arm-cpu,site=lab|yard,line!=3,health=ok",
    )
    stages: tuple[Stage, ...] = Field(
        min_length=1, max_length=100, description=f"a list, each {STAGE_FORM}; growing"
    )
    bake_s: float = Field(
        default=300.0,
        ge=0,
        le=MONTH_S,
        description="seconds that a settled stage is watched, 0 to 2592000 (30 days)",
    )
    quorum: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="share of a stage that must answer to bake and report to pass, over 0 to 1",
    )
    silence_s: float = Field(
        default=900.0,
        gt=0,
        le=MONTH_S,
        description="seconds after which a quiet device holds nothing up, over 0 to 2592000",
    )
    permit_downgrade: bool = Field(
        default=False, description="true or false: reach devices that have confirmed a later release"
    )
    rate: Rate | None = Field(
        default=None,
        description="devices begun a minute: a number, or {per_minute, factor, after, max_per_minute}",
    )
    max_in_flight: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="devices that may be on their way at once, at least 1"
    )
    windows: tuple[MaintenanceWindow, ...] = Field(
        default=(),
        max_length=20,
        description='a list of {begin: "22:00", end: "04:00", days: [mon, tue]}, by the device\'s own clock',
    )
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        description="IANA name such as Europe/Berlin, of devices without a label tz",
    )
    start_at: AwareDatetime | None = Field(
        default=None, description="a time with its offset, such as 2030-01-31T20:00:00+01:00"
    )
    deadline: AwareDatetime | None = Field(
        default=None, description="a time with its offset, such as 2030-02-28T06:00:00+01:00, after start_at"
    )
    on_deadline: OnDeadline = Field(
        default=OnDeadline.STOP, description="stop, rollback-stage or rollback-rollout"
    )
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="-100 to 100: of rollouts that name the same device the higher one comes first",
    )
    join: Join = Field(
        default=Join.LAST_STAGE,
        description="never, last-stage or until-deadline: devices that enrol after the start",
    )
    retries: Retries = Field(
        default=Retries(),
        description="retries by cause: {shed, network, verification, golden, crash, backoff_s}",
    )
    on_failure: OnFailure = Field(
        default=OnFailure.ROLLBACK_ROLLOUT, description="rollback-stage, rollback-rollout or hold"
    )
    gates: Mapping[str, GateLimit] = Field(
        default_factory=lambda: default_gates(),
        description="limits by gate, such as {error_rate: 0.02, drift: {limit: 0.2, min_inferences: 500}}",
    )

    false_halt: float = Field(
        default=0.01,
        ge=1e-6,
        le=0.5,
        description="chance that a good release is halted, over the rollout and all its gates, 1e-6 to 0.5",
    )
    control: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9]{1,3})?%$")] | None = Field(
        default=None,
        description="a share such as 10%: devices that get it in the last stage, for comparison till then",
    )
    stray: float = Field(
        default=1e-4,
        ge=1e-6,
        le=0.1,
        description="chance that a device which was well fails by itself while it is watched, 1e-6 to 0.1",
    )

    @model_validator(mode="before")
    @classmethod
    def _stages_of_the_kind(cls, raw: Any) -> Any:
        """A kind may bring stages, and terms, of its own."""
        if isinstance(raw, dict) and raw.get("kind") == Kind.SHADOW_FIRST and raw.get("shadow") is None:
            raw = {**raw, "shadow": {}}
        if isinstance(raw, dict) and raw.get("kind") == Kind.BLUE_GREEN and raw.get("blue_green") is None:
            raw = {**raw, "blue_green": {}}
        if isinstance(raw, dict) and "stages" not in raw and raw.get("kind") in DEFAULT_STAGES:
            return {**raw, "stages": DEFAULT_STAGES[raw["kind"]]}
        return raw

    @field_validator("select")
    @classmethod
    def _readable(cls, text: str, info: ValidationInfo) -> str:
        named = selector.parse(text)
        if not (info.context or {}).get("is_stored"):
            selector.require_known_health(named)
        return text

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        zone(name)
        return name

    @field_validator("gates")
    @classmethod
    def _known_and_in_range(cls, gates: Mapping[str, GateLimit]) -> Mapping[str, GateLimit]:
        for name, gate in gates.items():
            known = GATES.get(name)
            if known is None:
                raise ValueError(f"unknown gate {name!r}{meant(name, GATES, cutoff=0.4)}")
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

    @field_validator("stages")
    @classmethod
    def _ascending(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        check_ascending(stages)
        return stages

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind is Kind.CANARY and len(self.stages) != 2:
            raise ValueError(
                f"kind canary has two stages, the canaries and all; found {len(self.stages)}: "
                "leave stages out, or take kind staged"
            )
        if (self.kind is Kind.AB) != (self.experiment is not None):
            raise ValueError(
                "kind ab goes with an experiment, such as {name: taste, share: 0.2}, and no other kind does"
            )
        if self.shadow is not None and self.kind not in (Kind.SHADOW_FIRST, Kind.REHEARSAL):
            raise ValueError(f"kind {self.kind} has no shadow; take kind shadow-first, or leave shadow out")
        if self.blue_green is not None and self.kind not in (Kind.BLUE_GREEN, Kind.REHEARSAL):
            raise ValueError(
                f"kind {self.kind} brings nothing first; take kind blue-green, or leave blue_green out"
            )
        if self.blue_green is not None and self.shadow is not None:
            raise ValueError("a rehearsal goes by shadow or by blue_green, not by both")
        if self.kind is Kind.SHADOW_FIRST and "shadow_agreement" not in self.gates:
            raise ValueError(
                "kind shadow-first needs the gate shadow_agreement: which share of the inputs must be "
                "answered alike, such as {shadow_agreement: 0.9}"
            )
        if self.kind is Kind.REHEARSAL and (len(self.stages) != 1 or self.on_failure is OnFailure.HOLD):
            raise ValueError("kind rehearsal has one stage, and goes back: it cannot hold")
        if self.deadline is not None and self.start_at is not None and self.deadline <= self.start_at:
            raise ValueError(
                f"deadline {self.deadline.isoformat()} is not after start_at {self.start_at.isoformat()}"
            )
        if self.join is Join.UNTIL_DEADLINE and self.deadline is None:
            raise ValueError("join until-deadline needs a deadline: without one it would never end")
        return self

    @model_validator(mode="after")
    def _leaves_a_control_group(self) -> Self:
        for stage in self.stages[:-1]:
            if stage.percent is not None and stage.percent > 100 * (1 - self.held_back(0)) + 1e-9:
                raise ValueError(
                    f"stage {stage} leaves no control group of {self.control}: only the last stage reaches it"
                )
        return self

    def held_back(self, stage: int) -> float:
        """Share of the selected devices that a stage leaves alone, so that the others can be compared."""
        if self.control is None or stage >= len(self.stages) - 1:
            return 0.0
        return float(self.control.removesuffix("%")) / 100

    @property
    def model(self) -> str:
        """Name of the release."""
        return self.release.split("@")[0]

    @property
    def version(self) -> str:
        """Version of the release."""
        return self.release.split("@")[1]

    @property
    def first_part(self) -> Part:
        """With what a stage begins."""
        if self.shadow is not None:
            return Part.SHADOW
        return Part.SWITCH if self.blue_green is None else Part.READY

    @property
    def unable(self) -> Unable:
        """What becomes of devices that cannot take the first part."""
        first = self.shadow or self.blue_green
        return Unable.SWITCH if first is None else first.unable

    def terms_of(self, part: Part) -> dict[str, Any] | None:
        """The terms of an assignment, as they are stored."""
        if part is Part.READY:
            return {"hold": True}
        if part is Part.SWITCH or self.shadow is None:
            return None
        return {"shadow": self.shadow.terms.model_dump(mode="json")}

    def bake_of(self, stage: int, part: Part = Part.SWITCH) -> float:
        """How long a part of a stage is watched, seconds."""
        if part is Part.SHADOW and self.shadow is not None and self.shadow.bake_s is not None:
            return self.shadow.bake_s
        own = self.stages[stage].bake_s
        return self.bake_s if own is None else own


def default_gates() -> dict[str, GateLimit]:
    """Every gate that has a limit which suits most, at that limit."""
    return {name: GateLimit(limit=gate.default) for name, gate in GATES.items() if gate.default is not None}


def at_s(moment: datetime | None) -> float | None:
    """Unix seconds of a time of a plan."""
    return None if moment is None else moment.timestamp()


def parse_plan(
    raw: Any,
    what: str = "rollout plan",
    lines: Mapping[tuple[str | int, ...], int] = {},
    is_stored: bool = False,
) -> RolloutPlan:
    """Turn a parsed document into a plan, or refuse on one line.

    Args:
        lines: Line numbers by path, where they are known.
        is_stored: It was taken once: what was looked at less closely then is still a plan.

    Raises:
        FormatInvalid: An unknown key or gate, a missing or wrong value.
        FormatTooNew: Another version of the format.
    """
    require_format(raw, FORMAT, what)
    return parse(RolloutPlan, raw, what, lines, {"is_stored": is_stored})
