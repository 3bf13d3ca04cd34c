"""A number on the command line: a range that neither "nan" nor "inf" is in, whatever its limits."""

from __future__ import annotations

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """click's FloatRange, without the two that compare with no limit as a reader would expect."""

    name = "number"

    def _describe_range(self) -> str:
        """For the help; nothing where there are no limits, which click would call x<=None."""
        return super()._describe_range() if (self.min, self.max) != (None, None) else ""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse and check one value."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
