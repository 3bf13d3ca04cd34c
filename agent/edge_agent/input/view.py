"""Which part of a picture a model sees: what a crop cut off, what a letterbox added."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """The model's picture as a rectangle of the one that was handed over, in shares of that one's sides.

    A crop's view lies inside 0..1; a letterbox's reaches beyond.
    """

    left: float
    top: float
    right: float
    bottom: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the model's picture (in shares of it) lies in the one that was handed over."""
        return self.left + x * (self.right - self.left), self.top + y * (self.bottom - self.top)


WHOLE = View(0.0, 0.0, 1.0, 1.0)
