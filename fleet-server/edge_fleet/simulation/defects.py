"""What may be wrong with a release in a dry run: which number, by how much, on how many devices."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The number that is worse. Its size is what is added to the share of a good release."""

    ERRORS = "errors"
    UNCERTAIN = "uncertain"
    SECOND = "second"
    WRONG = "wrong"
    GOLDEN = "golden"
    LATENCY = "latency"  # the size is what is added to the ratio: 0.5 is half as slow again
    INSTALL = "install"  # the share of devices on which the release crashes when it is tried


@dataclass(frozen=True)
class Defect:
    """A defect of a release.

    Args:
        size: 0 is a good release.
        on: Share of the devices on which it shows.
    """

    kind: Kind = Kind.ERRORS
    size: float = 0.0
    on: float = 1.0

    def adds(self, kind: Kind) -> float:
        """What it adds to a number."""
        return self.size if kind is self.kind else 0.0


GOOD = Defect()
