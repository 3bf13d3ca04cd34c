"""What somebody saw of a rollout who gives an order: one to what is no longer there is refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from edge_fleet.errors import RequestInvalid
from edge_fleet.rollouts.phases import Phase, Position

# the conductor goes from one to the other by itself, and every order means the same in both
_AT_WORK = frozenset({Phase.RUNNING, Phase.BAKING})


@dataclass(frozen=True)
class Seen:
    """Where a rollout stood on somebody's screen.

    Args:
        stage: Index.
    """

    phase: Phase
    stage: int

    @classmethod
    def of(cls, position: Position) -> Self:
        """What one sees who looks now."""
        return cls(position.phase, position.stage)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes.

        Raises:
            RequestInvalid: It is something else.
        """
        phase, _, stage = text.partition(".")
        try:
            return cls(Phase(phase), int(stage))
        except ValueError:
            raise RequestInvalid(
                f"{text!r:.40} is no place of a rollout, expected such as running.0"
            ) from None

    def holds(self, position: Position) -> bool:
        """Whether an order means now what it meant then."""
        alike = position.phase is self.phase or {position.phase, self.phase} <= _AT_WORK
        return alike and position.stage == self.stage

    def __str__(self) -> str:
        """As a form carries it."""
        return f"{self.phase}.{self.stage}"
