"""One input with a part of it taken away, again and again, and how much the answer minds. Pure arithmetic.

Of a picture a square is covered with what is usual there (Zeiler & Fergus, arXiv:1311.2901, section
4.2); the squares overlap by half. Of a vector a feature is replaced by its values in other samples, and the
answers are averaged (Fisher, Rudin & Dominici, arXiv:1801.01489, for one input). What is usual comes from
the golden inputs of the bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Table, width_of

CELLS = 8  # along the longer side of a picture
MOST_FEATURES = 32  # of a vector; more numbers are taken together with their neighbours
SMALLEST_SIDE = 8  # what has fewer rows or columns is a signal and no picture
Floats = NDArray[np.float64]
Ask = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class Feature:
    """Numbers that are replaced together.

    Args:
        start, stop: Of the flattened sample.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Axes:
    """Which axes of one sample are a picture's rows and columns."""

    rows: int
    columns: int


def picture_axes(spec: TensorSpec) -> Axes | None:
    """The axes of an input that is a picture, or None when it is not one."""
    if len(spec.shape) != 4 or not spec.layout:
        return None
    axes = Axes(0, 1) if spec.layout == "NHWC" else Axes(1, 2)
    sides = spec.shape[1 + axes.rows], spec.shape[1 + axes.columns]
    return axes if min(sides) >= SMALLEST_SIDE else None


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the map: cells as square as the sides allow."""
    cell = max(height, width) / CELLS
    return max(1, round(height / cell)), max(1, round(width / cell))


def occlusion(ask: Ask, sample: NDArray[Any], axes: Axes, usual: NDArray[Any]) -> Floats:
    """How much the answer falls without each part of a picture.

    Args:
        ask: The watched figure of each sample of a batch (n, ...), shape (n,).
        sample: Without its batch axis.
        usual: What covers it, like a sample.

    Returns:
        Shape `grid_of(...)`: above 0 where the part speaks for the answer, below where against.
    """
    height, width = sample.shape[axes.rows], sample.shape[axes.columns]
    rows, columns = grid_of(height, width)
    variants = [sample]
    for row in range(rows):
        for column in range(columns):
            hidden = sample.copy()
            where: list[slice] = [slice(None)] * sample.ndim
            where[axes.rows] = window(row, rows, height)
            where[axes.columns] = window(column, columns, width)
            hidden[tuple(where)] = usual[tuple(where)]
            variants.append(hidden)
    figures = ask(np.stack(variants))
    return np.asarray((figures[0] - figures[1:]).reshape(rows, columns))


def window(cell: int, cells: int, side: int) -> slice:
    """A cell and half of its neighbours."""
    width = side / cells
    return slice(max(0, round((cell - 0.5) * width)), min(side, round((cell + 1.5) * width)))


def features_of(spec: TensorSpec) -> tuple[Feature, ...]:
    """The columns of a table; else every number, or groups of neighbours."""
    if isinstance(spec.prepare, Table):
        found, at = [], 0
        for column in spec.prepare.columns:
            found.append(Feature(column.name, at, at + width_of(column)))
            at += width_of(column)
        return tuple(found)
    size = int(np.prod(spec.shape[1:]))
    edges = np.linspace(0, size, min(size, MOST_FEATURES) + 1).round().astype(int).tolist()
    return tuple(Feature(_name(spec.name, a, b), a, b) for a, b in pairwise(edges))


def importance(ask: Ask, sample: NDArray[Any], features: tuple[Feature, ...], others: NDArray[Any]) -> Floats:
    """How much the answer falls, on average, when a feature has another sample's values.

    Args:
        others: Samples to take values from, shape (n, ...).

    Returns:
        Shape (features,): above 0 for what speaks for the answer, below for what speaks against.
    """
    falls = []
    whole = ask(sample[np.newaxis])[0]
    for feature in features:
        variants = np.repeat(sample.reshape(1, -1), len(others), axis=0)
        flat = others.reshape(len(others), -1)
        variants[:, feature.start : feature.stop] = flat[:, feature.start : feature.stop]
        falls.append(whole - float(ask(variants.reshape(len(others), *sample.shape)).mean()))
    return np.array(falls)


def _name(tensor: str, start: int, stop: int) -> str:
    last = stop - 1
    return f"{tensor}[{start}]" if last == start else f"{tensor}[{start}..{last}]"
