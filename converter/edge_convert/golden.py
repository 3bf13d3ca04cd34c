"""Golden inputs: real samples with known answers, run again before a model is switched on.

The choice is the same every time. A classifier's are the samples its source is surest of, dealt
out over the classes: another CPU's rounding moves an int8 softmax by tens of codes (66 measured
between LiteRT's own two CPU paths) and must not flip them, while a wrong layout, a swapped colour
or a broken accelerator does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_contracts.arrays import write_npz
from edge_contracts.manifest import Task
from edge_convert.graph import Array

COUNT, FEWEST = 16, 4
MAX_BYTES = 2 << 20  # large pictures: golden inputs must not dwarf the artifact that a device downloads
# One of 16 may flip: rounding on another CPU, not a wrong tensor contract.
MIN_AGREEMENT = 0.9
# 66 codes of 256 on a few samples' softmax is 12 dB; a transposed input gives 0 dB and less.
MIN_SQNR_DB = 10.0


def how_many(inputs: Mapping[str, Array]) -> int:
    """How many samples a bundle carries.

    Args:
        inputs: By input name, [n, ...].
    """
    sample_bytes = sum(values[:1].nbytes for values in inputs.values())
    return max(FEWEST, min(COUNT, MAX_BYTES // max(1, sample_bytes)))


def choose(outputs: Mapping[str, Array], task: Task, count: int = COUNT) -> NDArray[np.intp]:
    """Indices of the samples to keep, ascending.

    Args:
        outputs: The source's answers by output name, [n, ...].
    """
    scores = next(iter(outputs.values()))
    samples = len(scores)
    count = min(count, samples)
    if task != "classification":
        return np.unique(np.linspace(0, samples - 1, count).round().astype(np.intp))
    rows = np.sort(scores.reshape(samples, -1).astype(np.float64), axis=1)
    margins = rows[:, -1] - rows[:, -2]
    winners = scores.reshape(samples, -1).argmax(axis=1)
    # a sample's place among its own class, surest first; then all first places, all second ones ...
    place = np.zeros(samples, np.intp)
    surest_first = np.argsort(-margins, kind="stable")
    for winner in np.unique(winners):
        members = surest_first[winners[surest_first] == winner]
        place[members] = np.arange(len(members))
    order = np.lexsort((-margins, place))
    return np.sort(order[:count]).astype(np.intp)


def archive(inputs: Mapping[str, Array], expected: Mapping[str, Mapping[str, Array]]) -> bytes:
    """The bytes of golden.npz.

    Args:
        inputs: By the contract's input name.
        expected: By artifact id, then by output name.
    """
    arrays = {f"input/{name}": array for name, array in inputs.items()}
    for artifact_id, outputs in expected.items():
        arrays |= {f"expected/{artifact_id}/{name}": array for name, array in outputs.items()}
    return write_npz(arrays)
