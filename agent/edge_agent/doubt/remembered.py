"""What is remembered of answers that wait for labels, as it goes to the disk and comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAGE = 1 << 11  # answers that are stored together
ANSWER = np.dtype([("name", "<i8"), ("class", "<i4"), ("confidence", "<f4"), ("by", "<i2")])


@dataclass(frozen=True)
class Answerer:
    """A model whose answers are remembered, as far as a label needs it.

    Args:
        classes: How many it tells apart.
    """

    bundle: str
    artifact: str
    runtime: str
    labels: tuple[str, ...]
    classes: int


@dataclass(frozen=True, eq=False)
class Page:
    """Answers that lie together.

    Args:
        number: Of the page, from 0.
        total: Answers that had been remembered when it was taken, over all pages and times.
        models: By the number that `answers["by"]` gives them.
        answers: Of dtype ANSWER, shape (PAGE,) or shorter; `name` 0 is a free place.
    """

    number: int
    total: int
    models: dict[int, Answerer]
    answers: NDArray[np.void]
