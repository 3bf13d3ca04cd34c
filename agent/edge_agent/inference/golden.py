"""Golden inputs: asking an opened model what it was asked when it was made, and comparing the answers.

A device whose arithmetic differs (another processor, another driver) shows here, and not a year later
in the field. The comparison is pure; the thresholds are the manifest's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import sealed
from edge_agent.inference.session import Session
from edge_contracts.arrays import read_npz
from edge_contracts.errors import FormatInvalid
from edge_contracts.manifest import Golden, Manifest, Task

ArraysByName = Mapping[str, NDArray[Any]]
MAX_BYTES = 256 << 20  # of golden.npz, unpacked: it is read on small devices


@dataclass(frozen=True, eq=False)
class GoldenSet:
    """Inputs with the answers that one artifact gave where it was made; shapes (count, ...)."""

    inputs: ArraysByName
    expected: ArraysByName


@dataclass(frozen=True)
class GoldenResult:
    """How well a model agrees with its golden answers.

    Args:
        total: Golden inputs asked that the manifest calls sure: all of them where it tells no kinds.
        agree: Those of them with the expected top-1 class (classification), else those whose own answer
            reaches the manifest's signal-to-noise ratio.
        sqnr_db: Of the worst output over all inputs; infinite when the answers are equal.
        reason: "" when it passed; else what was found and what is needed.
    """

    total: int
    agree: int
    sqnr_db: float
    reason: str

    @property
    def passed(self) -> bool:
        """Whether both thresholds hold."""
        return not self.reason


def read_golden(folder: Path, manifest: Manifest, artifact_id: str) -> GoldenSet:
    """The golden inputs of an extracted bundle and the answers of one artifact.

    Raises:
        FormatInvalid: The file does not hold what the manifest says.
    """
    name = manifest.golden.file.path
    try:
        content = sealed.read(folder, name)
    except OSError as error:
        raise FormatInvalid(f"cannot read {name}: {error.strerror}") from None
    arrays = read_npz(content, name, MAX_BYTES)
    golden = GoldenSet(
        {spec.name: _take(arrays, f"input/{spec.name}", manifest, spec.shape) for spec in manifest.inputs},
        {
            spec.name: _take(arrays, f"expected/{artifact_id}/{spec.name}", manifest, spec.shape)
            for spec in manifest.outputs
        },
    )
    return golden


def run_golden(session: Session, golden: GoldenSet) -> GoldenResult:
    """Ask a session all golden inputs.

    Raises:
        InferenceFailed: The runtime failed on one.
        InputRefused: The bundle's own inputs break its contract.
    """
    found = session.infer_apart(golden.inputs).outputs
    return compare(golden.expected, found, session.manifest.task, session.manifest.golden)


def compare(expected: ArraysByName, found: ArraysByName, task: Task, limits: Golden) -> GoldenResult:
    """Compare answers with the expected ones.

    Args:
        expected, found: By output name in the contract's order, shape (count, ...).
    """
    first = next(iter(expected))
    count = int(expected[first].shape[0])
    sure = np.array([kind == "sure" for kind in limits.kinds or ("sure",) * count])
    if task == "classification":
        same = _top(expected[first]) == _top(found[first])
    else:
        same = np.full(count, True)
        for name in expected:
            per_sample = [sqnr_db(e, f) for e, f in zip(expected[name], found[name], strict=True)]
            same &= np.array(per_sample) >= limits.min_sqnr_db
    total, agree = int(sure.sum()), int((same & sure).sum())
    ratio = min(sqnr_db(expected[name], found[name]) for name in expected)
    faults = []
    if agree < limits.min_agreement * total:
        faults.append(f"{agree} of {total} golden answers agree, needed {limits.min_agreement:.1%}")
    if ratio < limits.min_sqnr_db:
        faults.append(f"answers at {ratio:.1f} dB from the expected, needed {limits.min_sqnr_db:.1f} dB")
    return GoldenResult(total, agree, ratio, "; ".join(faults))


def sqnr_db(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Power of the expected values over that of the difference, decibels.

    Returns:
        Infinity when they are equal, minus infinity when one that should not be is NaN or infinite.
    """
    signal = expected.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is as wrong as can be, and says so
        noise_power = float(np.square(found.astype(np.float64) - signal).sum())
    if not math.isfinite(noise_power):
        return -math.inf
    if noise_power == 0:
        return math.inf
    signal_power = float(np.square(signal).sum())
    return 10 * math.log10(signal_power / noise_power) if signal_power else -math.inf


def _top(scores: NDArray[Any]) -> NDArray[np.int64]:
    """The class of each sample; -1 where a score is not a number."""
    flat = scores.reshape(scores.shape[0], -1)
    top: NDArray[np.int64] = np.where(np.isnan(flat).any(axis=1), -1, flat.argmax(axis=1))
    return top


def _take(
    arrays: Mapping[str, NDArray[Any]], key: str, manifest: Manifest, shape: tuple[int, ...]
) -> NDArray[Any]:
    wanted = (manifest.golden.count, *shape[1:])
    if key not in arrays:
        raise FormatInvalid(f"{manifest.golden.file.path} has no {key!r}")
    if arrays[key].shape != wanted:
        raise FormatInvalid(
            f"{manifest.golden.file.path}: {key!r} has shape {arrays[key].shape}, expected {wanted}"
        )
    return arrays[key]
