"""What the world does to inputs: corruptions in three severities, within the contract's value range.

In the spirit of Hendrycks and Dietterich's common corruptions (arXiv:1903.12261), with strengths near
those of their CIFAR-10-C. One decorated function each; samples in, samples out, the same ones every
time. What they do to a model is measured in `robustness.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_convert.explain.picture import PictureAxes, picture_axes
from edge_convert.graph import Array, Port

SEVERITIES = (1, 2, 3)
Floats = NDArray[np.float64]
Kind = Literal["picture", "vector"]


@dataclass(frozen=True, eq=False)
class Space:
    """Where one input's samples live.

    Args:
        low, high: The contract's value range; nothing leaves it.
        axes: Of a picture; None for anything else.
        mean, deviation: Of each feature over the calibration samples, in the shape of a sample.
    """

    low: float
    high: float
    axes: PictureAxes | None
    mean: Floats
    deviation: Floats

    @property
    def kind(self) -> Kind:
        """Which corruptions mean something here."""
        return "vector" if self.axes is None else "picture"


def space_of(port: Port, calibration: Array) -> Space:
    """The space of an input, from its calibration samples.

    A picture is what has rows and columns, eight of each or more and at most twice as many of one as of
    the other: spectra and feature maps over time have them too, and brightness means nothing there.
    """
    axes = picture_axes(port)
    if axes is not None:
        sides = sorted((port.shape[1 + axes.rows], port.shape[1 + axes.columns]))
        axes = axes if sides[1] <= 2 * sides[0] else None
    wide = calibration.astype(np.float64)
    return Space(float(wide.min()), float(wide.max()), axes, wide.mean(axis=0), wide.std(axis=0))


Change = Callable[[Floats, "Space", int, np.random.RandomState], Floats]


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Args:
        change: Pictures as [n, rows, columns, channels] in 0..1, or vectors as they are with their space.
        channels: How many a picture may have; None for any number.
        needs: Module of the extra [robustness] that it is made with, or "".
    """

    name: str
    kind: Kind
    change: Change
    channels: tuple[int, ...] | None = None
    needs: str = ""


_REGISTRY: dict[str, Corruption] = {}


def corruption(
    name: str, kind: Kind, channels: tuple[int, ...] | None = None, needs: str = ""
) -> Callable[[Change], Change]:
    """Register the decorated function."""

    def register(change: Change) -> Change:
        _REGISTRY[name] = Corruption(name, kind, change, channels, needs)
        return change

    return register


def of_kind(kind: Kind) -> list[Corruption]:
    """All corruptions of a kind of input, in the order of their definition."""
    return [one for one in _REGISTRY.values() if one.kind == kind]


def corrupted(
    one: Corruption, feeds: Mapping[str, Array], spaces: Mapping[str, Space], severity: int
) -> dict[str, Array]:
    """Samples after a corruption; inputs that it means nothing to stay as they are.

    Args:
        spaces: By input name, of the inputs that hold real numbers.
    """
    # RandomState's stream is frozen by numpy's compatibility policy (NEP 19)
    random = np.random.RandomState(severity)
    result = dict(feeds)
    for name, values in feeds.items():
        if _applies(one, values, spaces.get(name)):
            result[name] = _changed(one, values, spaces[name], severity, random)
    return result


def applies(one: Corruption, feeds: Mapping[str, Array], spaces: Mapping[str, Space]) -> bool:
    """Whether a corruption means something to any of the inputs."""
    return any(_applies(one, values, spaces.get(name)) for name, values in feeds.items())


def _applies(one: Corruption, values: Array, space: Space | None) -> bool:
    if space is None or space.kind != one.kind or space.high <= space.low:
        return False
    if space.axes is None or one.channels is None:
        return True
    return values.shape[1 + space.axes.channels] in one.channels


def _changed(
    one: Corruption, values: Array, space: Space, severity: int, random: np.random.RandomState
) -> Array:
    if space.axes is None:
        changed = one.change(values.astype(np.float64), space, severity, random)
        return np.clip(changed, space.low, space.high).astype(values.dtype)
    order = (0, 1 + space.axes.rows, 1 + space.axes.columns, 1 + space.axes.channels)
    scaled = (np.transpose(values, order).astype(np.float64) - space.low) / (space.high - space.low)
    changed = np.clip(one.change(np.clip(scaled, 0, 1), space, severity, random), 0, 1)
    back = np.transpose(changed * (space.high - space.low) + space.low, np.argsort(order))
    return np.ascontiguousarray(back, dtype=values.dtype)


@corruption("gaussian noise", "picture")
def _picture_noise(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    return values + (0.04, 0.08, 0.12)[severity - 1] * random.standard_normal(values.shape)


@corruption("blur", "picture")
def _blur(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    """Gaussian, of a width in proportion to the picture's smaller side."""
    sigma = (0.4, 0.7, 1.0)[severity - 1] * min(values.shape[1:3]) / 32
    reach = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        widths = [(0, 0)] * 4
        widths[axis] = (reach, reach)
        padded = np.pad(values, widths, mode="edge")
        side = values.shape[axis]
        values = np.zeros_like(values)
        for place, weight in enumerate(kernel):
            values += weight * np.take(padded, np.arange(place, place + side), axis=axis)
    return values


@corruption("brightness", "picture")
def _brightness(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    return values + (0.1, 0.2, 0.3)[severity - 1]


@corruption("contrast", "picture")
def _contrast(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    mean = values.mean(axis=(1, 2), keepdims=True)
    return np.asarray((values - mean) * (0.75, 0.5, 0.4)[severity - 1] + mean, np.float64)


@corruption("JPEG", "picture", channels=(1, 3), needs="PIL")
def _jpeg(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    from PIL import Image  # of the extra [robustness]

    quality = (80, 65, 50)[severity - 1]
    result = np.empty_like(values)
    for index, picture in enumerate(np.rint(values * 255).astype(np.uint8)):
        stream = io.BytesIO()
        grey = picture.shape[2] == 1
        Image.fromarray(picture[:, :, 0] if grey else picture).save(stream, "JPEG", quality=quality)
        with Image.open(stream) as opened:
            result[index] = np.asarray(opened, np.float64).reshape(picture.shape) / 255
    return result


@corruption("noise", "vector")
def _vector_noise(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    """Each feature by a share of its own standard deviation."""
    return values + (0.1, 0.2, 0.4)[severity - 1] * space.deviation * random.standard_normal(values.shape)


@corruption("feature dropout", "vector")
def _dropout(values: Floats, space: Space, severity: int, random: np.random.RandomState) -> Floats:
    """Some features of each sample become their mean: a sensor that fell silent."""
    lost = random.random_sample(values.shape) < (0.05, 0.1, 0.2)[severity - 1]
    return np.where(lost, space.mean, values)
