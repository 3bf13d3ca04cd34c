"""Seeing that a source says the same again and again: a camera whose picture froze, a sensor that hangs.

It remembers the last sample of each client, so it belongs to whoever asks one model for several clients
(`inference/serving.py`), and not to the session, which golden inputs pass through as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Checks

STUCK = "stuck"
MAX_CLIENTS = 8  # frames are large; a ninth client pushes out the one that was silent longest
_PROBES = 64  # a few numbers nearly always show that a sample is another one


@dataclass
class _Last:
    """A client's last sample.

    Args:
        run: How often it came in a row.
    """

    sample: NDArray[Any]
    run: int


class StuckWatch:
    """One input's memory. Not for use by two threads at once."""

    def __init__(self, spec: TensorSpec, checks: Checks, only: bool) -> None:
        """Remember nothing yet.

        Args:
            only: The model has no other input, so that it may be called "x".
        """
        self._name, self._only = spec.name, only
        self._limit = checks.stuck_after or 0
        self._refuses = checks.stuck == "refuse"
        self._last: OrderedDict[str, _Last] = OrderedDict()

    @staticmethod
    def of(manifest: Manifest) -> tuple[StuckWatch, ...]:
        """A watch for every input whose contract asks for one."""
        only = len(manifest.inputs) == 1
        return tuple(
            StuckWatch(spec, spec.checks, only)
            for spec in manifest.inputs
            if spec.checks is not None and spec.checks.stuck_after is not None
        )

    def see(self, client: str, inputs: Mapping[str, NDArray[Any]]) -> int:
        """Look at what a client asks; how many of its samples are stuck.

        Raises:
            InputRefused: "stuck", where the contract says so.
        """
        values = inputs.get(self._name)
        if values is None:
            values = inputs.get("x") if self._only else None
        if values is None or values.ndim == 0:
            return 0  # refused by its name or shape
        stuck = sum(self._run(client, sample) >= self._limit for sample in values)
        if stuck and self._refuses:
            run = self._last[client].run
            raise InputRefused(STUCK, f"input {self._name!r} was the same sample {run} times in a row")
        return stuck

    def _run(self, client: str, sample: NDArray[Any]) -> int:
        last = self._last.get(client)
        if last is not None and last.sample.shape == sample.shape and last.sample.dtype == sample.dtype:
            step = max(1, sample.size // _PROBES)
            flat, known = sample.reshape(-1), last.sample.reshape(-1)
            if np.array_equal(flat[::step], known[::step]) and np.array_equal(flat, known):
                last.run += 1
            else:
                np.copyto(last.sample, sample)
                last.run = 1
        else:
            last = self._last[client] = _Last(np.array(sample), 1)
            if len(self._last) > MAX_CLIENTS:
                self._last.popitem(last=False)
        self._last.move_to_end(client)
        return last.run
