"""Samples whose monitored numbers are not worked out yet: many at once cost less than each by itself.

What is small is copied and waits, since the caller may write the next sample into the same array. Of a large
sample the moments are taken at once, while the processor's cache still has it: a copy alone costs as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.features import Floats, Moments, features, is_large, row_moments
from edge_contracts.manifest import Manifest, TensorSpec

BUFFER_BYTES = 1 << 17  # of what waits; what a small processor caches
BUFFER_ROWS = 256  # beyond, larger buffers no longer pay

Arrays = Mapping[str, NDArray[Any]]


class WaitingSamples:
    """The samples of one model.

    Args:
        manifest: Of the bundle; arrays come in its contract's dtypes.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Wait for none yet."""
        self._task = manifest.task
        self._inputs = {s.name: s for s in manifest.inputs if not is_large(s.shape)}
        self._outputs = {s.name: s for s in manifest.outputs}
        kept = (*self._inputs.values(), *self._outputs.values())
        row_bytes = sum(_numbers(spec) * np.dtype(spec.dtype).itemsize for spec in kept)
        self.most = max(1, min(BUFFER_ROWS, BUFFER_BYTES // max(1, row_bytes)))
        self._parts: dict[str, list[bytes]] = {f"input:{name}": [] for name in self._inputs}
        self._parts |= {f"output:{name}": [] for name in self._outputs}
        self._copies = [(name, self._parts[f"input:{name}"]) for name in self._inputs]
        self._copied_outputs = [(name, self._parts[f"output:{name}"]) for name in self._outputs]
        self._moments: dict[str, list[Moments]] = {
            s.name: [] for s in manifest.inputs if s.name not in self._inputs
        }
        self._large = list(self._moments.items())
        self._waiting = 0

    def add(
        self, inputs: Arrays, outputs: Arrays, samples: int, moments: Mapping[str, Moments] | None
    ) -> bool:
        """Remember a batch that is no larger than `most`; whether it is time to work them out.

        Args:
            moments: Of an input of a single sample, where they are known; None leaves large inputs out.
        """
        for name, parts in self._copies:
            parts.append(inputs[name].tobytes())
        for name, parts in self._copied_outputs:
            parts.append(outputs[name].tobytes())
        if moments is not None:
            for name, kept in self._large:
                if name in moments:
                    kept.append(moments[name])
                else:
                    kept += [row_moments(row) for row in inputs[name].reshape(samples, -1)]
        self._waiting += samples
        return self._waiting >= self.most

    def take(self) -> dict[str, Floats]:
        """Monitored numbers of what waits, by name; nothing waits any more."""
        count, self._waiting = self._waiting, 0
        if not count:
            return {}
        inputs = {name: self._joined(f"input:{name}", spec, count) for name, spec in self._inputs.items()}
        outputs = {name: self._joined(f"output:{name}", spec, count) for name, spec in self._outputs.items()}
        known = {name: moments for name, moments in self._large if moments}
        found = features(inputs, outputs, self._task, known)
        for _, moments in self._large:
            moments.clear()
        return found

    def at_once(self, inputs: Arrays, outputs: Arrays) -> dict[str, Floats]:
        """Monitored numbers of a batch that need not wait."""
        return features(inputs, outputs, self._task)

    def _joined(self, key: str, spec: TensorSpec, count: int) -> NDArray[Any]:
        parts = self._parts[key]
        whole = np.frombuffer(b"".join(parts), spec.dtype).reshape(count, *spec.shape[1:])
        parts.clear()
        return whole


def _numbers(spec: TensorSpec) -> int:
    return math.prod(spec.shape[1:])
