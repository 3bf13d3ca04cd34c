"""The devices of a rollout at one moment, and what was worked out of all of them for that moment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar, cast

from edge_fleet.rollouts.reached import Reached

T = TypeVar("T")


class Company(tuple[Reached, ...]):
    """Devices that a rollout has reached; the same object for as long as none of them changes.

    Args:
        suspects: Those that may count as silent now; None: nobody has looked.
    """

    suspects: tuple[Reached, ...] | None
    _once: dict[Hashable, object]

    def __new__(cls, rows: Iterable[Reached] = (), suspects: Iterable[Reached] | None = None) -> Company:
        """Take them in the order in which they are told."""
        made = super().__new__(cls, rows)
        made.suspects = None if suspects is None else tuple(suspects)
        made._once = {}
        return made

    @property
    def to_suspect(self) -> tuple[Reached, ...]:
        """Everybody that may count as silent."""
        return self if self.suspects is None else self.suspects

    def once(self, name: Hashable, work: Callable[[], T]) -> T:
        """What a work on these devices gives, done the first time that it is asked for.

        Args:
            name: Tells it from every other, whatever it depends on besides the devices included.
        """
        if name not in self._once:
            self._once[name] = work()
        return cast("T", self._once[name])
