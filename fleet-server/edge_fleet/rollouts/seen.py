"""What somebody saw of a rollout who gives an order: one to what is no longer there is refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from edge_fleet.errors import RequestInvalid
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Phase, Position

# the conductor goes from one to the other by itself, and every order means the same in both
_AT_WORK = frozenset({Phase.RUNNING, Phase.BAKING})


@dataclass(frozen=True)
class Seen:
    """Where a rollout stood on somebody's screen.

    Args:
        stage: Index.
        part: Of the stage: an order to pass the first must not pass the second, too.
    """

    phase: Phase
    stage: int
    part: Part = Part.SWITCH

    @classmethod
    def of(cls, position: Position) -> Self:
        """What one sees who looks now."""
        return cls(position.phase, position.stage, position.part)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes.

        Raises:
            RequestInvalid: It is something else.
        """
        phase, _, place = text.partition(".")
        stage, _, part = place.partition(".")
        try:
            return cls(Phase(phase), int(stage), Part(part) if part else Part.SWITCH)
        except ValueError:
            raise RequestInvalid(
                f"{text!r:.40} is no place of a rollout, expected such as running.0 or running.0.shadow"
            ) from None

    @classmethod
    def told(cls, head: Mapping[str, Any]) -> Self:
        """What one sees whom the API has told (`RolloutHead`)."""
        return cls(Phase(head["phase"]), int(head["stage"]), Part(head["part"]))

    def holds(self, position: Position) -> bool:
        """Whether an order means now what it meant then."""
        alike = position.phase is self.phase or {position.phase, self.phase} <= _AT_WORK
        return alike and (position.stage, position.part) == (self.stage, self.part)

    def __str__(self) -> str:
        """As a form carries it."""
        return f"{self.phase}.{self.stage}" + (f".{self.part}" if self.part is not Part.SWITCH else "")
