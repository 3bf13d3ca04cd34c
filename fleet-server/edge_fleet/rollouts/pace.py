"""How fast a rollout goes: assignments a minute, and devices in flight at once. Pure.

Both follow from what is stored of the devices, so a restart neither forgets nor repeats. The growth is
that of AWS IoT Jobs' exponential rate (baseRatePerMinute, incrementFactor,
numberOfSucceededThings, maximumPerMinute), counted over the whole rollout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from edge_fleet.model import Frozen

MINUTE_S = 60.0
HIGHEST = 60_000  # a thousand a second: twice what dispatch sends


class Rate(Frozen):
    """Devices that are begun a minute.

    Args:
        factor: The rate is multiplied by it after every `after` devices that confirmed.
        max_per_minute: Where the growth ends.
    """

    per_minute: int = Field(ge=1, le=HIGHEST, description="devices begun a minute, 1 to 60000")
    factor: float = Field(
        default=1.0, ge=1, le=10, description="growth of the rate after every `after` successes, 1 to 10"
    )
    after: int = Field(
        default=1, ge=1, le=1_000_000, description="successes after which the rate grows, at least 1"
    )
    max_per_minute: Annotated[int, Field(ge=1, le=HIGHEST)] | None = Field(
        default=None, description="devices a minute at which the growth ends, 1 to 60000"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, raw: Any) -> Any:
        """Read a bare number as a constant rate."""
        return {"per_minute": raw} if isinstance(raw, int) and not isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _grows_up(self) -> Self:
        if self.max_per_minute is not None and self.max_per_minute < self.per_minute:
            raise ValueError(
                f"max_per_minute {self.max_per_minute} is below per_minute {self.per_minute}: "
                "the rate grows up to it"
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The short form, for editors."""
        described = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": HIGHEST}, described]}

    def now(self, confirmed: int) -> int:
        """Devices a minute after so many successes."""
        highest = self.max_per_minute or HIGHEST
        steps = confirmed // self.after
        if self.factor > 1 and steps > math.log(HIGHEST) / math.log(self.factor):
            return highest
        return min(highest, math.floor(self.per_minute * self.factor**steps))

    def allowance(self, begun_s: Iterable[float], confirmed: int, now_s: float) -> int:
        """Devices that may be begun now: within the minute, and not all of them in its first second.

        Args:
            begun_s: When devices were begun, Unix seconds, of at least the last minute.
        """
        rate = self.now(confirmed)
        recent = [at for at in begun_s if at > now_s - MINUTE_S]
        just_now = sum(at > now_s - 1 for at in recent)
        return max(0, min(rate - len(recent), math.ceil(rate / MINUTE_S) - just_now))
