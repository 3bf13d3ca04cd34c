"""Telemetry windows of a made-up world, as it was when the model was made and as it changes."""

from __future__ import annotations

import agent_bundles
import numpy as np
from numpy.typing import NDArray

from edge_contracts.bundle import open_bundle
from edge_contracts.lineup import LineupCounts
from edge_contracts.manifest import Manifest, Score
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.sketch import Baseline, ScalarBaseline

BUNDLE = "sha256:" + "1" * 64
BASE = ScalarBaseline(name="input:x:mean", edges=(-1.0, 0.0, 1.0), counts=(160, 340, 340, 160))
SURE = BASE.model_copy(update={"name": "output:scores:confidence"})
KNOWN = Score(samples=400, metric="accuracy", source=0.9, artifact=0.9)


def manifest(**evaluation: Score) -> Manifest:
    """A bundle's, with a baseline of a thousand standard normal numbers."""
    made = open_bundle(agent_bundles.build("float32")).manifest
    baseline = Baseline(samples=1000, scalars=(BASE, SURE))
    return made.model_copy(update={"baseline": baseline, "evaluation": evaluation})


class World:
    """Windows of a minute with six hundred inferences and thirty labels."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(5)

    def window(
        self, input_shift: float = 0.0, output_shift: float = 0.0, accuracy: float = 0.9, repeat: int = 1
    ) -> Window:
        """The next minute; `repeat` frames in a row are the same."""
        return Window(
            bundle=BUNDLE,
            artifact="float32",
            runtime="litert",
            start_ms=0,
            end_ms=60_000,
            duration_ms=60_000,
            inferences=600,
            scalars=(
                ScalarCounts(name=BASE.name, counts=self._counts(input_shift, repeat)),
                ScalarCounts(name=SURE.name, counts=self._counts(output_shift, repeat)),
            ),
            lineup=LineupCounts(labelled=30, correct=int(self.random.binomial(30, accuracy))),
        )

    def _counts(self, shift: float, repeat: int) -> tuple[int, ...]:
        values: NDArray[np.float64] = np.repeat(self.random.standard_normal(600 // repeat) + shift, repeat)
        bins = np.searchsorted(np.array(BASE.edges), values, side="right")
        return tuple(np.bincount(bins, minlength=4).tolist())
