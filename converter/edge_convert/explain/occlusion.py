"""Occlusion maps: which part of a picture an answer rests on, for the source and for its artifact.

A square of the picture is covered with the mean of all pictures, the model is asked again, and the
fall of the answer is written where the square was (Zeiler & Fergus, arXiv:1311.2901, section 4.2).
The squares overlap by half, so that the map is smoother than the squares are small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.binding import Model
from edge_convert.explain.picture import PictureAxes
from edge_convert.graph import Array

CELLS, FEWEST_CELLS = 8, 4  # along the longer side; fewer say nothing
Heat = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what covers it.

    Args:
        feeds: One sample of every input, [1, ...].
        port: Name of the input that is covered.
        fill: What the covered part is replaced by, the input's shape without its batch axis.
        rows, columns: Cells of the map along each side.
    """

    feeds: Mapping[str, Array]
    port: str
    axes: PictureAxes
    fill: Array
    rows: int
    columns: int


def cells_along(side: int, most: int) -> int:
    """Cells along a side of so many pixels."""
    return min(side, most)


def covered(scene: Scene) -> dict[str, Array]:
    """The sample itself, and then once for each cell with that cell and half of its neighbours covered."""
    picture = scene.feeds[scene.port][0]
    variants = [picture]
    for row in range(scene.rows):
        for column in range(scene.columns):
            hidden = picture.copy()
            where: list[slice] = [slice(None)] * picture.ndim
            where[scene.axes.rows] = _window(row, scene.rows, picture.shape[scene.axes.rows])
            where[scene.axes.columns] = _window(column, scene.columns, picture.shape[scene.axes.columns])
            hidden[tuple(where)] = scene.fill[tuple(where)]
            variants.append(hidden)
    batch = {name: np.repeat(array, len(variants), axis=0) for name, array in scene.feeds.items()}
    batch[scene.port] = np.stack(variants)
    return batch


def _window(cell: int, cells: int, side: int) -> slice:
    width = side / cells
    low, high = round((cell - 0.5) * width), round((cell + 1.5) * width)
    return slice(max(0, low), min(side, high))


def heat(model: Model, scene: Scene, winner: int | None) -> Heat:
    """How much the answer depends on each cell.

    Args:
        winner: Class whose score is watched; None watches the whole first output.

    Returns:
        Shape (rows, columns): by how much the score falls, or how far the output moves relative to its
        own size.
    """
    answers = next(iter(model.run(covered(scene)).values())).astype(np.float64)
    flat = answers.reshape(len(answers), -1)
    if winner is not None:
        falls = flat[0, winner] - flat[1:, winner]
    else:
        size = float(np.sqrt(np.mean(flat[0] ** 2))) or 1.0
        falls = np.sqrt(np.mean((flat[1:] - flat[0]) ** 2, axis=1)) / size
    return np.asarray(falls.reshape(scene.rows, scene.columns))
