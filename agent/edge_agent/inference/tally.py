"""How many inputs of a source were answered, for a run that ends when all are (`edge-agent run --once`).

Whoever starts such a run wants to know by its exit code whether there are answers; why one input was
refused is in the log and in the windows.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.doubt.lineup import Settled
from edge_agent.errors import NothingAnswered
from edge_agent.inference.source import Announcing, Item, Missed, Nothing, Sample, Source


class Tally:
    """A source, counted: given to the engine in its place.

    Args:
        what: What a person calls the source.
        answered: Called with each answer.
    """

    def __init__(
        self, source: Source, what: str, answered: Callable[[Settled, Sample], None] | None = None
    ) -> None:
        """Begin at nothing."""
        self._source, self._what, self._next_answered = source, what, answered
        self.taken = 0
        self.answers = 0

    def next(self, now_s: float) -> Item:
        """What the source has now."""
        item = self._source.next(now_s)
        if not isinstance(item, Nothing | Missed):
            self.taken += 1
        return item

    def announce(self, wake: Callable[[], None]) -> None:
        """Say when there is something, where the source does."""
        if isinstance(self._source, Announcing):
            self._source.announce(wake)

    def answered(self, settled: Settled, sample: Sample) -> None:
        """Count one answer."""
        self.answers += 1
        if self._next_answered is not None:
            self._next_answered(settled, sample)

    def require_answers(self) -> None:
        """See that a source with inputs had one that could be answered.

        Raises:
            NothingAnswered: It had none.
        """
        if self.taken and not self.answers:
            raise NothingAnswered(
                f"none of the {self.taken} inputs of {self._what} was answered; the log above says why"
            )
