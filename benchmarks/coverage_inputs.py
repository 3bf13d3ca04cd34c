"""Inputs for the models of benchmarks/coverage.py: natural pictures where pictures are wanted, else made up.

Made-up inputs lie in the range that the model takes; they say nothing of its accuracy, but the noise
that compression adds is measured on them as well as on any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from conversion_cases import KEYWORD_SCALE, KEYWORD_ZERO_POINT, SHARED
from coverage_packages import Entry
from numpy.typing import NDArray

from edge_convert.data import InputPort

Array = NDArray[Any]
REAL = frozenset({"pictures", "keywords"})  # the others are made up


def feeds(entry: Entry, ports: tuple[InputPort, ...], part: str) -> dict[str, Array]:
    """Samples for every input; the first gets what the list says, what is left is small noise."""
    rng = np.random.RandomState({"calibration": 1, "evaluation": 2}[part])
    made = {}
    for position, port in enumerate(ports):
        shape = (entry.samples, *port.shape[1:])
        if position > 0:
            values = 0.3 * rng.standard_normal(shape)
        elif entry.feed == "pictures":
            values = _pictures(entry, port, part)
        elif entry.feed == "keywords":
            stored = np.load(SHARED / "kws" / f"{part}.npz")["x"][: entry.samples]
            values = (stored.astype(np.float32) - KEYWORD_ZERO_POINT) * KEYWORD_SCALE
        elif entry.feed == "sound":
            values = _sound(entry, shape, rng)
        elif entry.feed == "bytes":
            values = _text(entry, shape, rng)
        else:
            values = _noise(entry, shape, rng)
        made[port.name] = np.asarray(values).astype(port.dtype)
    return made


def _pictures(entry: Entry, port: InputPort, part: str) -> Array:
    """Natural crops, each brought to the input's size by nearest neighbours, in low..high."""
    crops = np.load(SHARED / "pictures" / f"{part}96.npz")["x"]
    crops = crops[np.linspace(0, len(crops) - 1, entry.samples).astype(int)].astype(np.float32)
    first = port.shape[1] in (1, 3)
    channels, high, wide = port.shape[1:] if first else (port.shape[3], port.shape[1], port.shape[2])
    rows, columns = (np.arange(size) * 96 // size for size in (high, wide))
    sized = crops[:, rows][:, :, columns]
    sized = sized.mean(axis=3, keepdims=True) if channels == 1 else sized
    scaled = entry.low + sized / 255 * (entry.high - entry.low)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if first else scaled)


def _sound(entry: Entry, shape: tuple[int, ...], rng: np.random.RandomState) -> Array:
    """A few tones of drifting loudness and some noise, as speech and music are: far from white."""
    length = int(np.prod(shape[1:]))
    time = np.arange(length) / 16000
    tones = np.zeros((shape[0], length))
    for _ in range(4):
        pitch = np.exp(rng.uniform(np.log(80), np.log(3000), (shape[0], 1)))
        loudness = rng.uniform(0, 0.3, (shape[0], 1)) * np.cos(2 * np.pi * rng.uniform(1, 4) * time) ** 2
        tones += loudness * np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6, (shape[0], 1)))
    tones += 0.01 * rng.standard_normal(tones.shape)
    return (tones * entry.high).reshape(shape)


def _text(entry: Entry, shape: tuple[int, ...], rng: np.random.RandomState) -> Array:
    """Bytes with the spread of text in one half of the samples, of compressed data in the other."""
    flat = rng.randint(0, int(entry.high), shape)
    text = rng.choice(np.frombuffer(b"etaoin shrdlu(){};=\n<>/", np.uint8), shape)
    return np.where((np.arange(shape[0]) % 2 == 0).reshape(-1, *[1] * (len(shape) - 1)), text, flat)


def _noise(entry: Entry, shape: tuple[int, ...], rng: np.random.RandomState) -> Array:
    """Every sample between bounds of its own inside low..high, smooth along the last axis."""
    walk = rng.standard_normal(shape).cumsum(axis=-1)
    low, high = walk.min(axis=-1, keepdims=True), walk.max(axis=-1, keepdims=True)
    ends = np.sort(rng.uniform(entry.low, entry.high, (shape[0], 2)), axis=1)
    ends = ends.reshape(shape[0], 2, *[1] * (len(shape) - 1))
    smooth = (walk - low) / np.maximum(high - low, 1e-9)
    values: Array = ends[:, 0] + smooth * (ends[:, 1] - ends[:, 0])
    return values
