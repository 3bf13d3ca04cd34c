"""The stages of a rollout: how far it goes before it stops to look. Pure.

A stage states the devices that are reached in all when it has begun, so that each includes those
before it: a count, a share of the selected devices, or everything with a label.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, GetJsonSchemaHandler, StringConstraints, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from edge_fleet.model import Frozen
from edge_fleet.rollouts import selector

STAGE = re.compile(r"^([0-9]{1,7})$|^([0-9]{1,3}(?:\.[0-9]{1,3})?)%$")
FORM = "a count such as 3, a share such as 50%, or a label such as ring=canary"
LONGEST_BAKE_S = 30 * 86400.0


class Stage(Frozen):
    """How many of the selected devices have been reached when the stage has begun: all before included.

    Args:
        count: Devices, or None.
        percent: Share of the selected devices, over 0 to 100, or None.
        label: A selector: every selected device that it names as well, or None.
        bake_s: How long this stage is watched, or None for the plan's own.
    """

    count: int | None = Field(default=None, ge=1, description="devices reached in all, at least 1")
    percent: float | None = Field(
        default=None, gt=0, le=100, description="share of the selected devices reached in all, over 0 to 100"
    )
    label: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        default=None,
        description="a selector such as ring=canary: all selected devices that it names",
        exclude_if=lambda value: value is None,
    )
    bake_s: Annotated[float, Field(ge=0, le=LONGEST_BAKE_S)] | None = Field(
        default=None,
        description="seconds that this stage is watched, 0 to 2592000 (30 days)",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        """Read "3", "50%" and "ring=canary" as people write them."""
        if isinstance(raw, int) and not isinstance(raw, bool):
            return {"count": raw}
        if not isinstance(raw, str):
            return raw
        found = STAGE.match(raw.strip())
        if found is not None:
            count, percent = found.groups()
            return {"count": int(count)} if count else {"percent": float(percent)}
        if "=" in raw:
            return {"label": raw.strip()}
        raise ValueError(f"stage {raw!r} is neither a count such as 3 nor a share such as 50%")

    @field_validator("percent", mode="before")
    @classmethod
    def _share(cls, raw: Any) -> Any:
        """Read "50%" where a share is asked for."""
        return raw.strip().removesuffix("%") if isinstance(raw, str) else raw

    @field_validator("label")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        if text is not None:
            selector.parse(text)
        return text

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(one is not None for one in (self.count, self.percent, self.label)) != 1:
            raise ValueError(f"a stage has either a count or a percent or a label: {FORM}")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The short forms, for editors."""
        described = handler.resolve_ref_schema(handler(core))
        return {
            "description": FORM,
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"{STAGE.pattern}|^[^=]+=.+$"},
                described,
            ],
        }

    def target(self, selected: int) -> int:
        """Devices reached in all, of so many selected; a share is rounded up.

        Only of counts and shares: what a label names depends on the devices (`goal`).
        """
        if self.count is not None:
            return min(self.count, selected)
        if self.percent is None:
            raise ValueError(f"how many devices {self.label} names depends on the devices")
        # rounding errors of the product must not add a device: 0.07 * 100 is 7.000000000000001
        return math.ceil(round(self.percent * selected / 100, 9))

    def names(self, device: str, profile: Sequence[str], labels: Mapping[str, str]) -> bool:
        """Whether a stage by label means a device; one by count or share means any."""
        return self.label is None or selector.parse(self.label).matches(device, profile, labels)

    def __str__(self) -> str:
        """As people write it."""
        if self.label is not None:
            return self.label
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


def check_ascending(stages: Sequence[Stage]) -> None:
    """See that later stages are larger; a count, a share and a label compare only when devices are known.

    Raises:
        ValueError: Two of one kind that are not.
    """
    for kind in ("count", "percent"):
        alike = [stage for stage in stages if getattr(stage, kind) is not None]
        for earlier, later_one in itertools.pairwise(alike):
            if getattr(later_one, kind) <= getattr(earlier, kind):
                raise ValueError(
                    f"stage {later_one} comes after {earlier}; a stage states the devices reached in all, "
                    "so it must be larger than the one before"
                )
