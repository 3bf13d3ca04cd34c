"""Permutation importance: which features a model's answers rest on, for the source and its artifact.

One feature's values are dealt out anew among the samples, and the answers are compared with those
to the untouched samples (Breiman, Random Forests, 2001; Fisher, Rudin & Dominici, arXiv:1801.01489).
No labels are needed: the figure is E|f(x) - f(x')|^2 / (2 Var f), Jansen's estimate (1999) of the share
of the outputs' variance that the feature has a part in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_convert.binding import Model
from edge_convert.graph import Array

MOST_FEATURES = 32  # more of them are taken together with their neighbours
SAMPLES, FEWEST_SAMPLES = 64, 16
_SEED = 20010101


@dataclass(frozen=True)
class Feature:
    """Neighbouring numbers of one input that are dealt out together.

    Args:
        start, stop: Of the flattened sample.
    """

    port: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Input and indices, such as "x[3]" or "x[20..39]"."""
        last = self.stop - 1
        return f"{self.port}[{self.start}]" if last == self.start else f"{self.port}[{self.start}..{last}]"


def features_of(feeds: Mapping[str, Array], most: int = MOST_FEATURES) -> tuple[Feature, ...]:
    """Every number of every input, or groups of neighbours when there are more than `most`."""
    share = max(1, most // len(feeds))
    found: list[Feature] = []
    for name, values in feeds.items():
        size = int(np.prod(values.shape[1:]))
        edges = np.linspace(0, size, min(size, share) + 1).round().astype(int)
        found += [Feature(name, int(a), int(b)) for a, b in pairwise(edges)]
    return tuple(found)


def importance(
    model: Model, feeds: Mapping[str, Array], features: tuple[Feature, ...]
) -> NDArray[np.float64] | None:
    """Share of the outputs' variance that each feature has a part in; 0 is none, 1 is all.

    Args:
        feeds: By input name, [n, ...]; the same permutations are used for every model.

    Returns:
        Shape (features,); None when the model gives the same answer to every sample, or one that is
        not finite.
    """
    count = len(next(iter(feeds.values())))
    rng = np.random.RandomState(_SEED)
    whole = _flat(model, feeds)
    variance = float(whole.var(axis=0).sum())
    if variance == 0 or not np.isfinite(variance):
        return None
    moved = []
    for feature in features:
        values = feeds[feature.port]
        dealt = values.reshape(count, -1).copy()
        order = rng.permutation(count)
        dealt[:, feature.start : feature.stop] = dealt[order, feature.start : feature.stop]
        answers = _flat(model, {**feeds, feature.port: dealt.reshape(values.shape)})
        moved.append(float(((answers - whole) ** 2).sum(axis=1).mean()) / (2 * variance))
    return np.array(moved) if np.isfinite(moved).all() else None


def _flat(model: Model, feeds: Mapping[str, Array]) -> NDArray[np.float64]:
    answers = next(iter(model.run(feeds).values()))
    return np.asarray(answers.reshape(len(answers), -1), np.float64)
